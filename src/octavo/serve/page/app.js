/**
 * The chat page: connects the parts of index.html with the conversation, the history, the settings and the server.
 */

import { hasKey, keepKey, listModels } from "./api.js";
import { Chat, askedDocuments } from "./chat.js";
import { viewer } from "./citations.js";
import { DocumentsPanel } from "./documents.js";
import { h, icon } from "./dom.js";
import { download, fillHistory } from "./history.js";
import { fillIdeas, fitHeight } from "./message.js";
import { Mirror } from "./mirror.js";
import { SettingsDialog, ask } from "./settings.js";
import { Speaker } from "./speech.js";
import { Store } from "./store.js";

/** @typedef {import("./api.js").ApiError} ApiError */

const LOADING_WAIT = 1000; // milliseconds between questions whether the model has loaded
const NEAR_END = 60; // pixels from the end of the log within which it follows the answer

/** @param {string} id @returns {any} */
const part = (id) => document.getElementById(id);

const store = new Store();
const input = part("input");
const log = part("log");
const picker = part("model");
const speaker = new Speaker(part("speech"));
let models = /** @type {import("./api.js").Model[]} */ ([]);
let following = true; // the log stays at its end

const chat = new Chat(store, {
  messages: part("messages"),
  speaker,
  changed: showState,
  grew: follow,
  failed: (error, again) => {
    speaker.say(error.message);
    if (error.kind === "key") askForKey(again);
  },
  complain: (message) => notify(message),
  focus: () => input.focus(),
  model: chosenModel,
});

const mirror = new Mirror(store, (ids) => {
  if (!chat.busy && ids.includes(chat.conversation.id)) chat.open(chat.conversation.id);
  else showHistory();
});

const documents = new DocumentsPanel({
  asked: () => askedDocuments(chat.conversation.settings),
  choose: (ids) => {
    changeSettings({ ...chat.conversation.settings, documents: ids.join(" ") });
    showAsked();
  },
  changed: showAsked,
  view: (collection, { id, name }) => viewer().show(collection, id, name, null),
  key: (again) => askForKey(again),
});

/** What the conversation asks beside the model, above the composer. */
function showAsked() {
  const ids = askedDocuments(chat.conversation.settings);
  part("asked").hidden = ids.length === 0;
  part("asked").replaceChildren(icon("document"), h("span", {}, `Asks ${documents.names(ids).join(", ")}`));
}

/** @param {import("./store.js").Settings} changed */
function changeSettings(changed) {
  chat.conversation.settings = changed;
  store.prefer("settings", changed);
  if (store.get(chat.conversation.id)) store.save(chat.conversation);
}

/** Everything around the messages, as the conversation is now. */
function showState() {
  const { title, messages, id } = chat.conversation;
  part("title").textContent = title || "New chat";
  document.title = title ? `${title} · Octavo` : "Octavo";
  part("welcome").hidden = messages.length > 0;
  showAsked();
  part("send").hidden = chat.busy;
  part("stop").hidden = !chat.busy;
  location.hash = store.get(id) ? id : "";
  showHistory();
}

function showHistory() {
  const query = part("search").value.trim();
  const found = store.list(query);
  fillHistory(part("history"), found, chat.conversation.id, { open, rename, remove });
  const count = found.length === 1 ? "1 conversation found" : `${found.length || "No"} conversations found`;
  part("found").textContent = query ? count : "";
  part("found").classList.toggle("unseen", !query);
}

/** @param {string | null} id */
function open(id) {
  chat.open(id);
  showLibrary(false);
  following = true;
  follow();
  input.focus();
}

/** @param {string} id */
async function rename(id) {
  const conversation = store.get(id);
  if (!conversation) return;
  const title = await ask({ title: "Rename", text: "Title", confirm: "Rename", answer: conversation.title });
  if (!title) return;
  conversation.title = title;
  store.save(conversation);
  showState();
}

/** @param {string} id */
async function remove(id) {
  const title = store.get(id)?.title ?? "";
  const text = `“${title}” is removed from this browser${mirror.on ? " and the server" : ""} for good.`;
  if ((await ask({ title: "Delete this conversation?", text, confirm: "Delete" })) === null) return;
  chat.stop(id);
  store.remove(id);
  if (id === chat.conversation.id) open(null);
  else showHistory();
}

/** @param {File} file */
async function importFile(file) {
  try {
    const count = store.importAll(await file.text());
    notify(count === 1 ? "One conversation imported." : `${count || "No new"} conversations imported.`);
  } catch (error) {
    notify(/** @type {Error} */ (error).message);
  }
  showHistory();
}

/**
 * Say something above the composer.
 * @param {string} message empty hides it
 * @param {{label: string, act: () => void}} [action]
 */
function notify(message, action = { label: "Close", act: () => {} }) {
  const act = () => {
    notify("");
    action.act();
  };
  part("notice").hidden = message === "";
  part("notice").replaceChildren(
    h("p", {}, message),
    h("button", { type: "button", class: "text", onclick: act }, action.label),
  );
}

/** @param {() => void} then */
async function askForKey(then) {
  const text = hasKey() ? "The server did not accept the last one." : "It is kept until this tab is closed.";
  const key = await ask({ title: "The server asks for a key", text, confirm: "Use key", answer: "", secret: true });
  if (key) keepKey(key);
  if (key && models.length === 0) await loadModels().then(() => {
  if (askedDocuments(chat.conversation.settings).length) documents.refresh();
});
  if (key) then();
  else notify("The server asks for a key.", { label: "Enter the key", act: () => askForKey(then) });
}

/** Fill the picker; what goes wrong is said above the composer. */
async function loadModels() {
  try {
    await fetchModels();
    notify("");
    await keepElsewhere();
  } catch (error) {
    const { kind, message } = /** @type {ApiError} */ (error);
    if (kind === "busy") setTimeout(loadModels, LOADING_WAIT);
    if (kind === "key") await askForKey(() => {});
    else notify(message, { label: "Try again", act: loadModels });
  }
}

/** Where conversations are kept; turns it where `wanted` is given. @param {boolean} [wanted] */
async function keepElsewhere(wanted) {
  try {
    if (wanted === undefined) await mirror.sync();
    else await mirror.turn(wanted);
  } catch (error) {
    notify(/** @type {ApiError} */ (error).message);
  }
  part("mirror").checked = mirror.on;
  const places = mirror.on ? "on the server and in this browser" : "in this browser alone";
  part("place").textContent = `Conversations are kept ${places}.`;
}

async function fetchModels() {
  models = await listModels();
  const wanted = store.preference("model");
  picker.replaceChildren(...models.map((model) => h("option", { value: model.id }, labelOf(model))));
  if (models.some(({ id }) => id === wanted)) picker.value = wanted;
  picker.title = picker.value;
}

async function chosenModel() {
  if (models.length === 0) await fetchModels();
  return models.find(({ id }) => id === picker.value) ?? { id: picker.value, context: null, parameters: null };
}

/** @param {import("./api.js").Model} model */
function labelOf({ id, parameters }) {
  if (!parameters) return id;
  const size = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(parameters);
  return `${id} (${size})`;
}

function follow() {
  if (chat.conversation.messages.length === 0) log.scrollTop = 0;
  else if (following) log.scrollTop = log.scrollHeight;
  part("latest").hidden = following || chat.conversation.messages.length === 0;
}

function submit() {
  const text = input.value.trim();
  if (!text || chat.busy) return;
  input.value = "";
  input.dispatchEvent(new Event("input"));
  notify("");
  following = true;
  chat.send(text);
  input.focus();
  follow();
}

/** @param {boolean} shown on narrow screens, where the list lies over the page */
function showLibrary(shown) {
  const change = document.body.classList.contains("library") !== shown;
  document.body.classList.toggle("library", shown);
  part("menu").setAttribute("aria-expanded", String(shown));
  /** @type {HTMLElement} */ (document.querySelector("main")).inert = shown;
  if (change) (shown ? part("new") : part("menu")).focus();
}

function stop() {
  chat.stop();
  input.focus();
}

/** @param {KeyboardEvent} event */
function onkey(event) {
  if (event.isComposing || document.querySelector("dialog[open]")) return;
  const composing = event.target === input;
  if (event.key === "Escape" && document.body.classList.contains("library")) showLibrary(false);
  else if (event.key === "Escape" && chat.busy) stop();
  else if (composing && event.key === "Enter" && !event.shiftKey) submit();
  else if (composing && event.key === "ArrowUp" && input.value === "") chat.editLast();
  else return;
  event.preventDefault();
}

/** @param {"light" | "dark" | null} theme null: the system's */
function showTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  part("theme").setAttribute("aria-pressed", String((theme ?? system) === "dark"));
}

function toggleTheme() {
  const dark = part("theme").getAttribute("aria-pressed") !== "true";
  store.prefer("theme", dark ? "dark" : "light");
  showTheme(dark ? "dark" : "light");
}

function listen() {
  const settings = new SettingsDialog((changed) =>
    changeSettings({ ...changed, documents: chat.conversation.settings.documents }));
  const clicks = {
    new: () => open(null),
    export: () => download("octavo-conversations.json", store.exportAll()),
    import: () => part("file").click(),
    menu: () => showLibrary(true),
    scrim: () => showLibrary(false),
    shelf: () => documents.open(),
    asked: () => documents.open(),
    adjust: () => settings.open(chat.conversation.settings),
    theme: toggleTheme,
    stop,
    latest: () => {
      following = true;
      follow();
      input.focus();
    },
  };
  for (const [id, act] of Object.entries(clicks)) part(id).addEventListener("click", act);
  document.addEventListener("keydown", onkey);
  listenToFields();
  listenToTheBrowser();
}

function listenToFields() {
  part("search").addEventListener("input", showHistory);
  part("file").addEventListener("change", async () => {
    await importFile(part("file").files[0]);
    part("file").value = ""; // so that the same file can be chosen again
  });
  part("mirror").addEventListener("change", () => keepElsewhere(part("mirror").checked));
  part("composer").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    submit();
  });
  picker.addEventListener("change", () => {
    store.prefer("model", picker.value);
    picker.title = picker.value;
  });
  log.addEventListener("scroll", () => {
    following = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END;
    part("latest").hidden = following || chat.conversation.messages.length === 0;
  });
}

function listenToTheBrowser() {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showTheme(store.preference("theme")));
  matchMedia("(min-width: 56rem)").addEventListener("change", () => showLibrary(false));
  addEventListener("pagehide", () => chat.saveAll());
  addEventListener("focus", () => models.length > 0 && keepElsewhere());
  addEventListener("hashchange", () => {
    const wanted = location.hash.slice(1); // back and forward
    const shown = store.get(chat.conversation.id) ? chat.conversation.id : "";
    if (wanted !== shown) open(store.get(wanted) ? wanted : null);
  });
  addEventListener("storage", ({ key }) => {
    if (key === null || chat.busy) return;
    store.reload(key); // another tab wrote it
    if (key.endsWith(chat.conversation.id)) chat.open(chat.conversation.id);
    else showHistory();
  });
}

showTheme(store.preference("theme"));
fillIdeas(part("ideas"), (text) => {
  input.value = text;
  submit();
});
listen();
fitHeight(input);
chat.open(location.hash.slice(1) || null);
follow();
input.focus();
if (store.unreadable > 0) notify(`${store.unreadable} stored conversations could not be read and were left alone.`);
loadModels();
