// Keeps a connection to the server; when it is lost, connects again.

// Milliseconds:
const FIRST_PAUSE = 500; // before the first attempt to reconnect; the pauses grow,
const LONGEST_PAUSE = 30_000; // so as not to flood a server in trouble
const PROVEN = 10_000; // after a connection this long, the next pause is short

// Its events: "connecting", "open", "request" and "message", each with the message as
// its detail, and "lost", with the pause until the next attempt.
export const connection = new EventTarget();

let socket = null;
let openedAt = Infinity;
let pause = FIRST_PAUSE;
let attempt = 0; // a timer

export function connect() {
  if (socket) abandon();
  clearTimeout(attempt);
  socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws`);
  socket.onopen = () => {
    openedAt = performance.now();
    tell("open");
  };
  socket.onmessage = ({ data }) => tell("message", parse(data));
  socket.onclose = lose;
  tell("connecting");
}

export function lose() {
  abandon();
  if (performance.now() - openedAt > PROVEN) pause = FIRST_PAUSE;
  openedAt = Infinity;
  // Jitter: when a server comes back, its pages do not all connect at the same moment.
  const wait = pause * (0.5 + Math.random() / 2);
  pause = Math.min(2 * pause, LONGEST_PAUSE);
  attempt = setTimeout(connect, wait);
  tell("lost", wait);
}

// A dead connection is not reported as closed, or only much later.
function abandon() {
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.close();
}

export function isOpen() {
  return socket?.readyState === WebSocket.OPEN;
}

export function send(request) {
  socket.send(JSON.stringify(request));
  tell("request", request);
}

function tell(type, detail = null) {
  connection.dispatchEvent(new CustomEvent(type, { detail }));
}

function parse(data) {
  try {
    return JSON.parse(data) ?? {};
  } catch {
    return {};
  }
}
