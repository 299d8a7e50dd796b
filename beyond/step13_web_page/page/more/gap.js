// Says where messages may be missing, because the connection was lost.

import { connection } from "../connection.js";
import { page } from "../group.js";
import { addLine } from "./view.js";

let group = null;
let isMember = false;
let heardAt = null; // when the server last sent something
let missingSince = null;

connection.addEventListener("message", () => {
  heardAt = new Date();
});
connection.addEventListener("lost", () => {
  if (isMember) missingSince = heardAt;
  isMember = false;
});
page.addEventListener("joined", ({ detail: groupId }) => {
  if (missingSince && groupId === group) addGap();
  missingSince = null;
  group = groupId;
  isMember = true;
});
page.addEventListener("left", () => {
  group = null;
  isMember = false;
});

function addGap() {
  const times = [missingSince, new Date()].map((date) => date.toLocaleTimeString());
  const item = document.createElement("li");
  item.className = "gap";
  item.textContent = `Messages between ${times.join(" and ")} may be missing here.`;
  addLine(item);
}
