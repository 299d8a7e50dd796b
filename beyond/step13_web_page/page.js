// What a person does becomes requests; what the server says is shown.

const FIRST_PAUSE = 500; // milliseconds between a lost connection and the next attempt,
const LONGEST_PAUSE = 30_000; // which grow, so that a server in trouble is left in peace
const PROVEN = 10_000; // milliseconds after which a connection counts as a good one
const KEPT = 1000; // messages on the page

const $ = (id) => document.getElementById(id);

let socket;
let timer;
let pause = FIRST_PAUSE;
let wish = null; // the request that leads into a group: sent on every new connection
let group = null; // the id of the group that the page is in
let isMember = false; // by this connection, too: the server has confirmed it
let unheard = []; // texts that this connection has sent, and that have not come back
let lost = []; // those of connections before: perhaps nobody heard them

function connect() {
  clearTimeout(timer);
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/ws`);
  let opened = Infinity;

  socket.onopen = () => {
    opened = performance.now();
    showStatus("connected");
    if (wish) send(wish);
  };

  socket.onmessage = ({ data }) => receive(data);

  socket.onclose = () => {
    isMember = false;
    lost.push(...unheard.splice(0));
    showStatus("disconnected");
    if (performance.now() - opened > PROVEN) pause = FIRST_PAUSE;
    // Jitter: when a server comes back, not all pages come in the same moment.
    timer = setTimeout(connect, pause * (0.5 + Math.random() / 2));
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  };
}

function connectNow() {
  if (socket.readyState === WebSocket.CLOSED && !document.hidden) connect();
}

function send(request) {
  const isOpen = socket.readyState === WebSocket.OPEN;
  if (isOpen) socket.send(JSON.stringify(request));
  return isOpen;
}

function receive(data) {
  let type, value;
  try {
    ({ type, value } = JSON.parse(data));
  } catch {
    return; // not JSON, or null
  }
  const { groupId, groupName, groupMessage } = value ?? {};

  if (type === "GROUP_MESSAGE") {
    if (!isText(groupId, groupMessage) || groupId !== group) return;
    hear(groupMessage);
  } else if (type === "GROUP_CREATED" || type === "GROUP_JOINED") {
    if (!isText(groupId, groupName)) return;
    if (isWished(type, groupId)) enter(groupId, groupName);
    else send({ type: "LEAVE_GROUP", value: groupId }); // a wish of before
  } else if (type === "GROUP_UNAVAILABLE") {
    if (!isText(value) || value !== wish?.value) return;
    if (isMember) {
      lost.push(...unheard.splice(0, 1)); // the server answers in order
      tell(`The group is out of reach for the moment. ${takeLost()}`);
      return;
    }
    history.replaceState(null, "", location.pathname);
    if (value === group) {
      lost.push(...unheard);
      stayOutside(`This group is gone: nobody was left in it. ${takeLost()}`);
    } else if (wish.type === "JOIN_GROUP") {
      stayOutside("There is no such group, or not any more.");
    } else {
      stayOutside("The server does not make this group.");
    }
  } else if (type === "INVALID_MESSAGE") {
    if (group === null) wish = null;
    tell("The server did not understand this.");
  }
}

function isText(...values) {
  return values.every((value) => typeof value === "string");
}

function isWished(type, groupId) {
  if (type === "GROUP_CREATED") return wish?.type === "CREATE_GROUP";
  return wish?.type === "JOIN_GROUP" && wish.value === groupId;
}

function want(request) {
  wish = request;
  const isLost = !send(wish) && $("status").textContent === "disconnected";
  tell(isLost ? "This has to wait for the connection." : "");
}

function enter(groupId, groupName) {
  if (isMember && groupId === group) return; // asked twice
  isMember = true;
  if (groupId === group) {
    tell(`Back again. What was said in the meantime is missing here. ${takeLost()}`);
    return;
  }
  group = groupId;
  wish = { type: "JOIN_GROUP", value: groupId };
  if (location.hash !== `#${groupId}`) history.pushState(null, "", `#${groupId}`);
  document.title = $("title").textContent = groupName.trim() || "No name";
  $("messages").replaceChildren();
  $("create").reset();
  $("join").reset();
  tell("");
  showForms();
  $("message").focus();
}

function leave() {
  if (group !== null) send({ type: "LEAVE_GROUP", value: group });
  $("messages").replaceChildren();
  stayOutside("");
}

function stayOutside(reason) {
  const wasInside = group !== null;
  isMember = false;
  group = wish = null;
  unheard = [];
  lost = [];
  document.title = "Groups";
  tell(reason);
  showForms();
  if (wasInside) $("name").focus(); // what had the focus may be hidden now
}

function showForms() {
  $("outside").hidden = group !== null;
  $("group").hidden = $("send").hidden = group === null;
}

function hear(text) {
  const item = document.createElement("li");
  item.textContent = text; // text, never HTML
  $("messages").append(item);
  if ($("messages").childElementCount > KEPT) $("messages").firstChild.remove();
  if (unheard.includes(text)) unheard.splice(unheard.indexOf(text), 1);
}

function takeLost() {
  return lost.length ? `Perhaps not delivered: ${lost.splice(0).join(" / ")}` : "";
}

function showStatus(status) {
  $("status").textContent = $("status").className = status;
}

function tell(text) {
  $("notice").textContent = text;
}

// The address is a wish, too: `/#<group id>` joins a group, and going back leaves it.
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
  const groupId = $("id").value.split("#").pop().trim(); // out of a link, perhaps
  want({ type: "JOIN_GROUP", value: groupId });
});

onSubmit("send", () => {
  const text = $("message").value;
  if (!text) return;
  const value = { groupId: group, groupMessage: text };
  if (send({ type: "MESSAGE_GROUP", value })) {
    unheard.push(text);
    $("send").reset();
    tell("");
  } else {
    tell("Not sent: there is no connection.");
  }
  $("message").focus();
});

$("leave").addEventListener("click", () => {
  history.pushState(null, "", location.pathname);
  leave();
});

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href); // only by https, or on localhost
    tell("The link is copied. Whoever has it can join.");
  } catch {
    tell(`Whoever has this link can join: ${location.href}`);
  }
});

window.addEventListener("hashchange", followAddress);
window.addEventListener("online", connectNow);
document.addEventListener("visibilitychange", connectNow);

connect();
followAddress();
