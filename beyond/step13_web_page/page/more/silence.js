// Notices a connection that has died without being closed.

import { connect, connection, isOpen, lose, send } from "../connection.js";

// Milliseconds:
const SILENCE = 20_000; // after this the page asks if the server is still there
const ANSWER = 10_000; // the longest wait for an answer, or for a connection

let silence = 0; // timers
let answer = 0;
let isLost = false;

function reset() {
  clearTimeout(silence);
  clearTimeout(answer);
  silence = answer = 0;
}

function awaitAnswer() {
  answer ||= setTimeout(lose, ANSWER);
}

function ask() {
  send({ type: "ECHO", value: "" });
}

function lookAfterConnection() {
  if (document.hidden) return;
  if (isLost) connect();
  else if (isOpen()) ask();
}

connection.addEventListener("connecting", () => {
  reset();
  isLost = false;
  awaitAnswer();
});
connection.addEventListener("request", awaitAnswer);
for (const type of ["open", "message"]) {
  connection.addEventListener(type, () => {
    reset();
    silence = setTimeout(ask, SILENCE);
  });
}
connection.addEventListener("lost", () => {
  reset();
  isLost = true;
});

window.addEventListener("online", lookAfterConnection);
document.addEventListener("visibilitychange", lookAfterConnection);
