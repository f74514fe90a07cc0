// What was said: adds to the list of messages, and keeps it scrolled to where the reader wants it.
import { avatar, badge, element } from "./dom.js";

const KEEP = 500;
const TOGETHER = 120_000; // messages of one person within two minutes share one heading
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });

export class Transcript {
  me = "";
  #list = document.getElementById("messages");
  #scroll = document.getElementById("scroll");
  #latest = document.getElementById("latest");
  #previous = {};

  constructor() {
    this.#latest.addEventListener("click", () => this.toEnd());
    this.#scroll.addEventListener("scroll", () => this.#atEnd() && (this.#latest.hidden = true));
    new ResizeObserver(() => this.#stuck && this.toEnd()).observe(this.#scroll);
  }

  said({ id, name, server, text, at }) {
    const mine = id === this.me;
    const follows = this.#previous.id === id && this.#previous.server === server && at - this.#previous.at < TOGETHER;
    this.#previous = { id, server, at };
    const when = new Date(at);
    const meta = element("p", { className: "meta", children: [
      element("span", { className: "name", text: mine ? `${name} (you)` : name }),
      element("time", { dateTime: when.toISOString(), text: clock.format(when) }),
      badge(server),
    ] });
    const body = element("div", { className: "body", children: [meta, element("p", { className: "text", text })] });
    const classes = ["message", mine && "mine", follows && "follows"].filter(Boolean).join(" ");
    this.#add(element("li", { className: classes, children: [avatar(name), body] }), mine);
  }

  rolled({ name, dice, rolls, bonus, total, worker }) {
    const faces = rolls.map((roll) => element("span", { className: "die", text: roll }));
    if (bonus) faces.push(element("span", { className: "bonus", text: bonus > 0 ? `+ ${bonus}` : `− ${-bonus}` }));
    const sum = element("span", { className: "total", children: [
      element("span", { className: "visually-hidden", text: "makes" }), element("strong", { text: total }),
    ] });
    this.#add(element("li", { className: "dice", children: [
      element("p", { children: [element("strong", { text: name }), ` rolled ${dice}`] }),
      element("p", { className: "faces", children: [...faces, sum] }),
      element("p", { className: "source", text: `thrown by the dice worker, pid ${worker}` }),
    ] }));
  }

  note(text, kind = "note") {
    this.#add(element("li", { className: kind, text }));
  }

  toEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#latest.hidden = true;
  }

  #stuck = true;

  #atEnd() {
    this.#stuck = this.#scroll.scrollHeight - this.#scroll.scrollTop - this.#scroll.clientHeight < 60;
    return this.#stuck;
  }

  #add(item, always = false) {
    const follow = this.#stuck || always;
    if (!item.classList.contains("message")) this.#previous = {};
    document.getElementById("empty").hidden = true;
    this.#list.append(item);
    while (this.#list.childElementCount > KEEP) this.#list.firstElementChild.remove();
    if (follow) this.toEnd();
    else this.#latest.hidden = false;
  }
}
