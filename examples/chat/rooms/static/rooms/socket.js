// A WebSocket that comes back by itself, and says how it is doing.

const SHORTEST_WAIT = 250;
const LONGEST_WAIT = 5_000;
const PING_EVERY = 20_000;
const PONG_WITHIN = 8_000;
const REFUSED = 4400;

export class LastingSocket extends EventTarget {
  // Events: "message" (detail: the parsed JSON) and "state" (detail: {state, wait}), where state is
  // "connecting", "waiting" (before the next try, in `wait` ms), or "refused" (no further try).
  #address;
  #socket = null;
  #failures = 0;
  #retry = 0;
  #ping = 0;
  #pong = 0;

  constructor(address) {
    super();
    this.#address = address;
    // A laptop that wakes up or finds its network again need not sit out the wait.
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
    // A page that is left may live on, asleep, for the way back; its person should not.
    addEventListener("pagehide", () => this.#socket?.close());
    addEventListener("pageshow", (event) => event.persisted && this.#hurry());
  }

  open() {
    clearTimeout(this.#retry);
    this.#retry = 0;
    this.#tell("connecting");
    const socket = new WebSocket(this.#address);
    this.#socket = socket;
    socket.addEventListener("message", (event) => this.#take(JSON.parse(event.data)));
    socket.addEventListener("close", (event) => this.#socket === socket && this.#closed(event));
  }

  // Returns whether the message went out; nothing is kept for later.
  send(content) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(content));
    return true;
  }

  #take(content) {
    if (content.type === "welcome") {
      this.#failures = 0; // not on "open": a server that accepts and then fails would be hammered
      this.#ping = setInterval(() => this.#check(), PING_EVERY);
    }
    clearTimeout(this.#pong);
    if (content.type !== "pong") this.dispatchEvent(new CustomEvent("message", { detail: content }));
  }

  // A connection can be dead without a word. Whoever does not answer is left.
  #check() {
    clearTimeout(this.#pong);
    if (this.send({ type: "ping" })) this.#pong = setTimeout(() => this.#abandon(), PONG_WITHIN);
  }

  #abandon() {
    const socket = this.#socket;
    this.#closed({ code: 1006 }); // its own close event may take a minute, and is ignored then
    socket.close();
  }

  #closed({ code }) {
    this.#socket = null;
    clearInterval(this.#ping);
    clearTimeout(this.#pong);
    if (code === REFUSED) return this.#tell("refused");
    const longest = Math.min(LONGEST_WAIT, SHORTEST_WAIT * 2 ** this.#failures++);
    const wait = longest * (0.6 + 0.4 * Math.random()); // not everybody at the same moment
    this.#retry = setTimeout(() => this.open(), wait);
    return this.#tell("waiting", wait);
  }

  #hurry() {
    if (this.#retry) this.open();
  }

  #tell(state, wait = 0) {
    this.dispatchEvent(new CustomEvent("state", { detail: { state, wait } }));
  }
}
