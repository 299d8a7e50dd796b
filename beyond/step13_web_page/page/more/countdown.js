// Says when the page will try to connect again, and lets a person try at once.

import { connect, connection } from "../connection.js";
import { $ } from "./view.js";

let attemptAt = 0;
let timer = 0;

function countDown() {
  const left = Math.ceil(attemptAt - performance.now());
  $("next").textContent = `Trying again in ${Math.ceil(left / 1000)} s`;
  if (left > 0) timer = setTimeout(countDown, left % 1000 || 1000);
}

connection.addEventListener("lost", ({ detail: pause }) => {
  attemptAt = performance.now() + pause;
  $("offline").hidden = false;
  countDown();
});
connection.addEventListener("connecting", () => {
  clearTimeout(timer);
  $("next").textContent = "Connecting …";
});
connection.addEventListener("open", () => {
  if (document.activeElement === $("retry")) {
    $($("send").hidden ? "name" : "message").focus(); // the button is about to disappear
  }
  $("offline").hidden = true;
});
$("retry").addEventListener("click", connect);
