// The room: puts the socket, the transcript, the people and the message box together.
import { element } from "./dom.js";
import { People } from "./people.js";
import { LastingSocket } from "./socket.js";
import { Transcript } from "./transcript.js";

const { room, name } = document.body.dataset;
const text = document.getElementById("text");
const transcript = new Transcript();
const people = new People(transcript);
let me = "";
let unread = 0;

// The tab's own key: it makes a reconnecting tab the same person, at whichever server process it ends up.
const key = sessionStorage.getItem("key") ?? crypto.getRandomValues(new Uint32Array(4)).join("-");
sessionStorage.setItem("key", key);

const address = new URL(`/ws/room/${room}/`, location.href.replace(/^http/, "ws"));
address.search = new URLSearchParams({ name, key });
const socket = new LastingSocket(address);

function status(state, words, detail = "") {
  document.getElementById("status").dataset.state = state;
  document.getElementById("status-text").replaceChildren(words, element("span", { className: "detail", text: detail }));
  for (const id of ["send", "roll"]) document.getElementById(id).disabled = state !== "live";
}

function heard() {
  if (document.hidden) document.title = `(${++unread}) #${room} · Trunk chat`;
}

const actions = {
  welcome({ you, pid }) {
    if (me) transcript.note("Connected again. What was said in the meantime is not shown.");
    me = transcript.me = you.id;
    document.getElementById("pid").textContent = `pid ${pid}`;
    status("live", `Live at ${you.server}`, ` · pid ${pid}`);
  },
  people: (message) => people.show(message.people, me),
  said: (message) => (transcript.said(message), heard()),
  rolled: (message) => (transcript.rolled(message), heard()),
  notice: (message) => transcript.note(message.text, "notice"),
};

socket.addEventListener("message", ({ detail }) => actions[detail.type]?.(detail));
socket.addEventListener("state", ({ detail: { state, wait } }) => {
  if (state === "refused") status("refused", "Not let in");
  else if (!me) status("connecting", "Connecting…");
  else if (state === "waiting" && wait > 1_500) status("lost", `Reconnecting in ${Math.ceil(wait / 1_000)} s`);
  else status("lost", "Reconnecting…");
});

function say(words) {
  if (!words.trim() || !socket.send({ type: "say", text: words })) return false;
  transcript.toEnd();
  return true;
}

function fit() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}

document.getElementById("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (say(text.value)) text.value = ""; // what could not be sent stays in the box
  fit();
  text.focus();
});
text.addEventListener("input", fit);
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  event.target.form.requestSubmit();
});
document.getElementById("roll").addEventListener("click", () => say("/roll 2d6"));
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unread = 0;
  document.title = `#${room} · Trunk chat`;
});
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement.style;
  const dark = root.colorScheme ? root.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.colorScheme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.colorScheme);
});

status("connecting", "Connecting…");
socket.open();
if (matchMedia("(pointer: fine)").matches) text.focus(); // on a phone this would raise the keyboard
