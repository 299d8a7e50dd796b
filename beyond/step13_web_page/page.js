// Turns what a person does into requests, and shows what the server sends.

// Milliseconds:
const FIRST_PAUSE = 500; // before the first attempt to reconnect; the pauses grow,
const LONGEST_PAUSE = 30_000; // so as not to flood a server in trouble
const PROVEN = 10_000; // after a connection this long, the next pause is short
const SILENCE = 20_000; // after this the page asks if the server is still there
const ANSWER = 10_000; // the longest wait for an answer, or for a connection
const PATIENCE = 8_000; // how long the page tries to rejoin its group,
const RETRY = 1_000; // and how often

const KEPT = 1000; // lines in the conversation
// Without characters that reverse text, which can disguise a link.
const LINK = /https?:\/\/[^\s\p{Cf}<>"]*[^\s\p{Cf}<>"'.,:;!?)\]}]/giu;
const VISIBLE = /[^\s\p{Cc}\p{Cf}]/u; // a text without these is blank
const NOTES = {
  said: "", // others' messages
  unheard: "You, sending",
  own: "You",
  lost: "You, perhaps not delivered",
  refused: "You, not delivered",
};

const $ = (id) => document.getElementById(id);
const timers = {};
const me = crypto.getRandomValues(new Uint32Array(4)).join("-"); // unguessable

let socket = null;
let openedAt = Infinity;
let attemptAt = 0;
let pause = FIRST_PAUSE;
let pending = []; // requests on this connection without an answer, in order
let fences = 0;

let wish = null; // the request to create or join a group; sent again after a reconnect
let group = null; // the id of the group that the page is in
let isMember = false; // whether this connection has joined it
let rejoinUntil = 0;
let name = ""; // of the group
let conversation = null; // the id of the group whose messages are on the page
let heardAt = null; // when the server last sent something
let missingSince = null;
let unread = 0;

// The connection

function connect() {
  if (socket) abandon();
  $("next").textContent = "Connecting …";
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/ws`);
  socket.onopen = open;
  socket.onmessage = ({ data }) => receive(data);
  socket.onclose = lose;
  setTimer("answer", lose, ANSWER);
}

function open() {
  stopTimers();
  openedAt = performance.now();
  rejoinUntil = openedAt + PATIENCE;
  setTimer("silence", ask, SILENCE);
  showStatus("connected");
  if (wish) send(wish);
}

function lose() {
  abandon();
  if (performance.now() - openedAt > PROVEN) pause = FIRST_PAUSE;
  openedAt = Infinity;
  if (isMember) missingSince = heardAt;
  isMember = false;
  for (const { item } of pending.splice(0)) if (item) mark(item, "lost");
  showStatus("disconnected");
  // Jitter: when a server comes back, its pages do not all connect at the same moment.
  attemptAt = performance.now() + pause * (0.5 + Math.random() / 2);
  pause = Math.min(2 * pause, LONGEST_PAUSE);
  countDown();
}

// A dead connection is not reported as closed, or only much later.
function abandon() {
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.close();
  stopTimers();
}

function countDown() {
  const left = Math.ceil(attemptAt - performance.now());
  if (left <= 0) {
    connect();
    return;
  }
  $("next").textContent = `Trying again in ${Math.ceil(left / 1000)} s`;
  setTimer("attempt", countDown, left % 1000 || 1000);
}

function lookAfterConnection() {
  if (document.hidden) return;
  unread = 0;
  showTitle();
  if (timers.attempt) connect();
  else if (socket.readyState === WebSocket.OPEN) ask();
}

function setTimer(key, act, delay) {
  clearTimeout(timers[key]);
  timers[key] = setTimeout(act, delay);
}

function stopTimers() {
  for (const key of Object.keys(timers)) {
    clearTimeout(timers[key]);
    delete timers[key];
  }
}

// Requests and answers

function send(request, item = null) {
  socket.send(JSON.stringify(request));
  pending.push({ ...request, item });
  if (pending.length === 1) setTimer("answer", lose, ANSWER);
}

function sendIfOpen(request) {
  if (socket.readyState === WebSocket.OPEN) send(request);
}

// An ECHO is for this page only. Its answer shows that the server is there, and has
// handled everything that the page sent before.
function ask() {
  send({ type: "ECHO", value: `${me} ${++fences}` });
}

// The server answers in order, so each answer belongs to the oldest request.
function takeRequest(fits) {
  if (!pending.length || !fits(pending[0])) return null;
  const request = pending.shift();
  clearTimeout(timers.answer);
  if (pending.length) setTimer("answer", lose, ANSWER);
  return request;
}

function isSame(request, other) {
  return request?.type === other?.type && request?.value === other?.value;
}

function receive(data) {
  heardAt = new Date();
  setTimer("silence", ask, SILENCE);
  const { type, value } = parse(data);
  switch (type) {
    case "ECHO":
      takeRequest((request) => isSame(request, { type, value }));
      break;
    case "GROUP_LEFT":
      takeRequest((request) => isSame(request, { type: "LEAVE_GROUP", value }));
      break;
    case "GROUP_MESSAGE":
      receiveMessage(value ?? {});
      break;
    case "GROUP_CREATED":
      receiveGroup("CREATE_GROUP", value ?? {});
      break;
    case "GROUP_JOINED":
      receiveGroup("JOIN_GROUP", value ?? {});
      break;
    case "GROUP_UNAVAILABLE":
      refuse(
        takeRequest((request) => (request.value.groupId ?? request.value) === value),
        "The group cannot be reached at the moment.",
      );
      break;
    case "INVALID_MESSAGE":
      refuse(
        takeRequest(() => true),
        "The server did not accept this message.",
      );
  }
}

function parse(data) {
  try {
    return JSON.parse(data) ?? {};
  } catch {
    return {};
  }
}

function isText(...values) {
  return values.every((value) => typeof value === "string");
}

function receiveMessage({ groupId, groupMessage }) {
  if (!isText(groupId, groupMessage)) return;
  const request = takeRequest(
    ({ item, value }) =>
      item && value.groupId === groupId && value.groupMessage === groupMessage,
  );
  if (request) mark(request.item, "own");
  else if (groupId === group) hear(groupMessage);
}

function receiveGroup(type, { groupId, groupName }) {
  if (!isText(groupId, groupName)) return;
  const request = takeRequest(
    (request) =>
      request.type === type && (type === "CREATE_GROUP" || request.value === groupId),
  );
  if (!request) return;
  if (isSame(request, wish)) enter(groupId, groupName);
  else send({ type: "LEAVE_GROUP", value: groupId }); // no longer wanted
}

function refuse(request, reason) {
  if (request?.item) {
    mark(request.item, "refused");
    tell(reason);
  } else if (!request || !isSame(request, wish) || isMember) {
    return; // nothing that the page waits for
  } else if (request.type === "CREATE_GROUP") {
    stayOutside("The server refused to create this group.");
  } else if (request.value !== group) {
    stayOutside("This group does not exist, or cannot be reached at the moment.");
  } else if (performance.now() < rejoinUntil) {
    tell("The group cannot be reached. Trying again …");
    setTimer("rejoin", () => sendIfOpen(wish), RETRY);
  } else {
    stayOutside("This group is gone, or cannot be reached at the moment.");
  }
}

// Inside and outside a group

function want(request) {
  if (isSame(request, wish)) return; // asked twice
  wish = request;
  sendIfOpen(wish);
  tell(socket.readyState === WebSocket.OPEN ? "" : "Waiting for the connection.");
}

function enter(groupId, groupName) {
  if (isMember && groupId === group) return; // asked twice
  const wasOutside = group === null;
  group = groupId;
  name = groupName.trim() || "No name";
  isMember = true;
  wish = { type: "JOIN_GROUP", value: groupId };
  tell("");
  if (conversation === groupId) addGap();
  else startConversation(groupId);
  showForms();
  if (!wasOutside) return;
  if (location.hash !== `#${groupId}`) history.pushState(null, "", `#${groupId}`);
  $("create").reset();
  $("join").reset();
  $("message").focus();
}

function leave() {
  if (group !== null) sendIfOpen({ type: "LEAVE_GROUP", value: group });
  startConversation(null);
  stayOutside("");
}

// The group may come back, so the address and the id stay.
function stayOutside(reason) {
  const wasInside = group !== null;
  if (reason && wish?.type === "JOIN_GROUP") $("id").value = wish.value;
  clearTimeout(timers.rejoin);
  isMember = false;
  group = wish = null;
  tell(reason);
  showForms();
  if (wasInside) $("name").focus(); // the focused element may be hidden now
}

function showForms() {
  $("outside").hidden = group !== null;
  $("group").hidden = $("send").hidden = group === null;
  $("log").hidden = conversation === null;
  $("title").textContent = group === null ? "Groups" : name;
  showTitle();
}

function showTitle() {
  document.title = (unread ? `(${unread}) ` : "") + $("title").textContent;
}

function showStatus(status) {
  const isOffline = status === "disconnected";
  if (!isOffline && document.activeElement === $("retry")) {
    $(group === null ? "name" : "message").focus(); // the button is about to disappear
  }
  $("status").textContent = $("status").className = status;
  $("offline").hidden = !isOffline;
}

function tell(text) {
  $("notice").textContent = text;
}

// The conversation

function startConversation(groupId) {
  conversation = groupId;
  missingSince = null;
  unread = 0;
  $("messages").replaceChildren();
  $("send").reset(); // a draft was meant for the last group
}

function hear(text) {
  // Messages that this page is still sending will come after it.
  addLine(makeMessage(text, "said"), $("messages").querySelector(".unheard"));
  if (!document.hidden) return;
  unread += 1;
  showTitle();
}

function addLine(item, next = null) {
  $("messages").insertBefore(item, next);
  if ($("messages").childElementCount > KEPT) $("messages").firstChild.remove();
}

function addGap() {
  const times = [missingSince, new Date()].map((date) => date.toLocaleTimeString());
  const item = document.createElement("li");
  item.className = "gap";
  item.textContent = `Messages between ${times.join(" and ")} may be missing here.`;
  addLine(item);
}

function makeMessage(text, state) {
  const item = document.createElement("li");
  const words = document.createElement("p");
  words.dir = "auto";
  words.append(...withLinks(text)); // text, never HTML
  const note = document.createElement("small");
  note.append(document.createElement("span"), " ", makeTime(new Date()));
  item.append(words, note);
  mark(item, state);
  return item;
}

function mark(item, state) {
  item.className = state;
  item.querySelector("span").textContent = NOTES[state];
}

function makeTime(date) {
  const time = document.createElement("time");
  time.dateTime = date.toISOString();
  time.textContent = date.toLocaleTimeString([], { timeStyle: "short" });
  return time;
}

function withLinks(text) {
  const parts = [];
  let end = 0;
  for (const { 0: url, index } of text.matchAll(LINK)) {
    parts.push(text.slice(end, index), makeLink(url));
    end = index + url.length;
  }
  return [...parts, text.slice(end)];
}

function makeLink(url) {
  const link = document.createElement("a");
  link.href = link.textContent = url;
  link.rel = "noopener noreferrer";
  link.target = "_blank";
  return link;
}

function say() {
  const text = $("message").value;
  $("message").focus();
  if (!VISIBLE.test(text)) return;
  if (!isMember || socket.readyState !== WebSocket.OPEN) {
    tell("Not sent: there is no connection to the group.");
    return;
  }
  ask(); // the same text before this answer is somebody else's
  const item = makeMessage(text, "unheard");
  addLine(item);
  const value = { groupId: group, groupMessage: text };
  send({ type: "MESSAGE_GROUP", value }, item);
  tell("");
  $("send").reset();
  $("log").scrollTop = 0; // the end
}

// Buttons and keys

// The address `/#<group id>` also joins a group; going back leaves it.
function followAddress() {
  const groupId = location.hash.slice(1);
  if (groupId === group) return;
  leave();
  if (groupId) want({ type: "JOIN_GROUP", value: groupId });
}

function onSubmit(form, act) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
}

onSubmit("create", () => want({ type: "CREATE_GROUP", value: $("name").value }));

onSubmit("join", () => {
  const groupId = $("id").value.split("#").pop().trim(); // it may be a link
  want({ type: "JOIN_GROUP", value: groupId });
});

onSubmit("send", say);

$("message").addEventListener("keydown", (event) => {
  // While composing a word, as in Japanese, Enter ends the word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("send").requestSubmit();
});

$("leave").addEventListener("click", () => {
  history.pushState(null, "", location.pathname);
  leave();
});

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href); // only over https, or on localhost
    tell("Link copied. Anyone who has it can join.");
  } catch {
    tell(`Anyone who has this link can join: ${location.href}`);
  }
});

$("retry").addEventListener("click", connect);
window.addEventListener("hashchange", followAddress);
window.addEventListener("online", lookAfterConnection);
document.addEventListener("visibilitychange", lookAfterConnection);

connect();
followAddress();
