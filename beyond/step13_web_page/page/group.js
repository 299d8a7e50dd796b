// Turns what a person does into requests, and shows what the server answers.

import { connect, connection, isOpen, send } from "./connection.js";
import * as view from "./more/view.js";

// Milliseconds:
const PATIENCE = 8_000; // how long the page tries to rejoin its group,
const RETRY = 1_000; // and how often

// Its events: "joined" with the id, "left", "say" and "hear" with the text. If "hear" is
// prevented, the message is on the page already.
export const page = new EventTarget();

let wish = null; // the request to create or join a group; sent again after a reconnect
let asked = []; // requests to create or join a group that have no answer yet
let group = null; // the id of the group that the page is in, also while it reconnects
let isMember = false; // whether this connection has joined it
let rejoinUntil = 0;

connection.addEventListener("open", () => {
  view.showStatus("connected");
  rejoinUntil = performance.now() + PATIENCE;
  if (wish) {
    view.tell("Joining …");
    ask(wish);
  }
});

connection.addEventListener("lost", () => {
  view.showStatus("disconnected");
  asked = [];
  isMember = false;
});

connection.addEventListener("message", ({ detail: { type, value } }) => {
  switch (type) {
    case "GROUP_CREATED":
      accept(value ?? {}, (request) => request.type === "CREATE_GROUP");
      break;
    case "GROUP_JOINED":
      accept(value ?? {}, (request) => request.value === value.groupId);
      break;
    case "GROUP_MESSAGE":
      if (group !== null && value?.groupId === group) hear(value.groupMessage);
      break;
    case "GROUP_UNAVAILABLE":
      refuse(take((request) => request.value === value));
      if (isMember && value === group) view.tell("The group cannot be reached at the moment.");
      break;
    case "INVALID_MESSAGE":
      view.tell("The server did not accept this message.");
  }
});

export function want(type, value) {
  if (wish?.type === type && wish.value === value) return; // asked twice
  wish = { type, value };
  if (isOpen()) ask(wish);
  view.tell(isOpen() ? "" : "Waiting for the connection.");
}

function ask(request) {
  asked.push(request);
  send(request);
}

// Returns the request that an answer belongs to.
function take(isAnswered) {
  const request = asked.find(isAnswered);
  asked = asked.filter((other) => other !== request);
  return request;
}

function accept({ groupId, groupName }, isAnswered) {
  if (typeof groupId !== "string" || typeof groupName !== "string") return;
  const request = take(isAnswered);
  if (request && request === wish) enter(groupId, groupName);
  else if (request) send({ type: "LEAVE_GROUP", value: groupId }); // no longer wanted
}

function refuse(request) {
  if (!request || request !== wish) return; // nothing that the page waits for
  if (request.type === "CREATE_GROUP") {
    stayOutside("The server refused to create this group.");
  } else if (request.value !== group) {
    stayOutside("This group does not exist, or cannot be reached at the moment.");
  } else if (performance.now() < rejoinUntil) {
    view.tell("The group cannot be reached. Trying again …");
    setTimeout(() => wish === request && isOpen() && ask(request), RETRY);
  } else {
    stayOutside("This group is gone, or cannot be reached at the moment.");
  }
}

function enter(groupId, groupName) {
  const wasOutside = group === null;
  group = groupId;
  isMember = true;
  wish = { type: "JOIN_GROUP", value: groupId };
  view.tell("");
  view.showGroup(groupId, groupName);
  page.dispatchEvent(new CustomEvent("joined", { detail: groupId }));
  if (wasOutside && location.hash !== `#${groupId}`) {
    history.pushState(null, "", `#${groupId}`);
  }
}

// The group may come back, so its messages and its id stay on the page.
function stayOutside(reason) {
  const groupId = wish.type === "JOIN_GROUP" ? wish.value : "";
  group = wish = null;
  view.tell(reason);
  view.showOutside(groupId);
}

export function leave() {
  if (group !== null && isOpen()) send({ type: "LEAVE_GROUP", value: group });
  group = wish = null;
  isMember = false;
  view.tell("");
  view.clearMessages();
  view.showOutside();
  page.dispatchEvent(new CustomEvent("left"));
}

function hear(text) {
  const event = new CustomEvent("hear", { detail: text, cancelable: true });
  if (page.dispatchEvent(event)) view.addMessage(text); // unless it is there already
}

// Returns whether the text is on its way.
export function say(text) {
  if (!isMember || !isOpen()) {
    view.tell("Not sent: there is no connection to the group.");
    return false;
  }
  view.tell("");
  page.dispatchEvent(new CustomEvent("say", { detail: text }));
  send({ type: "MESSAGE_GROUP", value: { groupId: group, groupMessage: text } });
  return true;
}

// The address `/#<group id>` joins a group, too; another address leaves it.
function followAddress() {
  const groupId = location.hash.slice(1);
  if (groupId === group) return;
  leave();
  if (groupId) want("JOIN_GROUP", groupId);
}

window.addEventListener("hashchange", followAddress);
window.addEventListener("DOMContentLoaded", () => {
  connect();
  followAddress();
});
