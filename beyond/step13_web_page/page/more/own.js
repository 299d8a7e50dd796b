// Shows one's own messages at once, and what has become of them.

import { connection, send } from "../connection.js";
import { page } from "../group.js";
import { $, addLine, addMessage } from "./view.js";

const NOTES = {
  unheard: "You, sending ",
  own: "You ",
  lost: "You, perhaps not delivered ",
  refused: "You, not delivered ",
};

const me = crypto.getRandomValues(new Uint32Array(4)).join("-"); // unguessable
let fences = 0; // sent
let passed = 0; // answered
let group = null;
let unheard = []; // messages, in order, each with the fence that was sent before it

page.addEventListener("joined", ({ detail }) => {
  group = detail;
});

page.addEventListener("say", ({ detail: text }) => {
  // An ECHO is for this page only. Until it comes, the same text is somebody else's.
  send({ type: "ECHO", value: `${me} ${++fences}` });
  const item = addMessage(text);
  $("messages").append(item); // after those that are unheard
  mark(item, "unheard");
  unheard.push({ item, text, fence: fences });
  $("log").scrollTop = 0; // the end
});

page.addEventListener("hear", (event) => {
  if (unheard[0]?.text !== event.detail) return;
  const item = take();
  if (!item) return;
  event.preventDefault();
  item.className = "";
  addLine(item);
  mark(item, "own");
});

connection.addEventListener("message", ({ detail: { type, value } }) => {
  if (type === "ECHO" && value === `${me} ${passed + 1}`) passed += 1;
  const isRefusal = type === "GROUP_UNAVAILABLE" && value === group;
  const item = isRefusal || type === "INVALID_MESSAGE" ? take() : null;
  if (item) mark(item, "refused");
});

connection.addEventListener("lost", () => {
  for (const { item } of unheard) mark(item, "lost");
  unheard = [];
  passed = fences;
});

// Returns the message that the server has answered now; it answers in order.
function take() {
  return unheard[0]?.fence <= passed ? unheard.shift().item : null;
}

function mark(item, state) {
  const note = item.querySelector("small");
  note.replaceChildren(NOTES[state], note.lastChild);
  item.className = state;
}
