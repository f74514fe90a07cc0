// Who is here, and how many of them each server process serves.
import { avatar, badge, element } from "./dom.js";

const PATIENCE = 2_500;

export class People {
  #known = new Map();
  #leaving = new Map(); // id -> timer
  #settled;
  #transcript;

  constructor(transcript) {
    this.#transcript = transcript;
    this.#settled = performance.now() + PATIENCE;
  }

  show(people, me) {
    document.getElementById("people-count").textContent = people.length;
    document.getElementById("people").replaceChildren(...people.map((person) => this.#item(person, me)));
    for (const item of document.querySelectorAll("#servers li")) {
      const served = people.filter((person) => person.server === item.dataset.server).length;
      item.querySelector(".load").textContent = served;
      item.classList.toggle("busy", served > 0);
    }
    this.#announce(people, me);
  }

  #item({ id, name, server }, me) {
    const label = element("span", { className: "who", text: name });
    if (id === me) label.append(element("small", { text: "you" }));
    return element("li", { children: [avatar(name), label, badge(server)] });
  }

  // A page that is reloaded, or moves to another process, is gone for a moment: that is not leaving. And those
  // whom the first lists bring did not just come.
  #announce(people, me) {
    const now = new Map(people.map(({ id, name }) => [id, name]));
    for (const [id, name] of now) {
      const back = clearTimeout(this.#leaving.get(id)) || this.#leaving.delete(id);
      if (id !== me && !back && !this.#known.has(id) && performance.now() > this.#settled) {
        this.#transcript.note(`${name} came in`);
      }
    }
    for (const [id, name] of this.#known) {
      if (id !== me && !now.has(id)) this.#leaving.set(id, setTimeout(() => this.#left(id, name), PATIENCE));
    }
    this.#known = now;
  }

  #left(id, name) {
    this.#leaving.delete(id);
    this.#transcript.note(`${name} left`);
  }
}
