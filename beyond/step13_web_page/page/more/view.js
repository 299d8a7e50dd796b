// What is on the page.

const KEPT = 1000; // lines in the conversation

let shown = null; // the id of the group whose messages are on the page

export const $ = (id) => document.getElementById(id);

export function tell(text) {
  $("notice").textContent = text;
}

export function showStatus(status) {
  $("status").textContent = $("status").className = status;
}

export function showGroup(groupId, name) {
  if (groupId !== shown) clearMessages(groupId);
  showForms(true, name.trim() || "No name");
}

export function showOutside(groupId = "") {
  showForms(false, "Groups");
  if (groupId) $("id").value = groupId;
}

function showForms(isInside, title) {
  const isNew = $("outside").hidden !== isInside;
  $("outside").hidden = isInside;
  $("leave").hidden = $("send").hidden = !isInside;
  $("log").hidden = shown === null;
  $("title").textContent = document.title = title;
  if (!isNew) return;
  $("create").reset();
  if (isInside) $("join").reset();
  $(isInside ? "message" : "name").focus(); // the focused element is hidden now
}

export function clearMessages(groupId = null) {
  shown = groupId;
  $("messages").replaceChildren();
  $("send").reset(); // a draft was meant for the last group
}

export function addMessage(text) {
  const item = document.createElement("li");
  const words = document.createElement("p");
  words.dir = "auto";
  words.textContent = text; // never HTML
  item.append(words, makeTime());
  return addLine(item);
}

function makeTime() {
  const note = document.createElement("small");
  const time = document.createElement("time");
  time.dateTime = new Date().toISOString();
  time.textContent = new Date().toLocaleTimeString([], { timeStyle: "short" });
  note.append(time);
  return note;
}

// Messages that the page is still sending come last.
export function addLine(item) {
  $("messages").insertBefore(item, $("messages").querySelector(".unheard"));
  if ($("messages").childElementCount > KEPT) $("messages").firstChild.remove();
  return item;
}
