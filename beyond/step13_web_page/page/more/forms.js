// What a person does with the forms, the button and the keys.

import { leave, say, want } from "../group.js";
import { $ } from "./view.js";

const VISIBLE = /[^\s\p{Cc}\p{Cf}]/u; // a text without these is blank

function onSubmit(form, act) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
}

onSubmit("create", () => want("CREATE_GROUP", $("name").value));

onSubmit("join", () => {
  const groupId = $("id").value.split("#").pop().trim(); // it may be an address
  want("JOIN_GROUP", groupId);
});

onSubmit("send", () => {
  const text = $("message").value;
  $("message").focus();
  if (VISIBLE.test(text) && say(text)) $("send").reset();
});

$("message").addEventListener("keydown", (event) => {
  // Shift+Enter starts a new line. While composing a word, Enter ends the word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("send").requestSubmit();
});

$("leave").addEventListener("click", () => {
  history.pushState(null, "", location.pathname);
  leave();
});
