/**
 * Conversations and preferences, kept in this browser: one entry of localStorage a conversation. `mirror.js` keeps
 * them on the server as well, where the reader asks for it.
 *
 * A conversation is a tree, so that regenerating and editing lose nothing: each message names its parent, `tip` is the
 * last message shown. What comes from storage or a file is checked field by field before it is used.
 */

/**
 * @typedef {{tokens: number, prompt: number, firstToken: number, speed: number | null, context: number | null}} Stats
 *   tokens of answer and prompt, seconds, tokens a second, the model's context length
 * @typedef {{id: string, name: string, arguments: string}} Call of a tool, with its arguments as JSON text
 * @typedef {{id: string, parent: string | null, role: "user" | "assistant" | "tool", content: string,
 *   created: number, model?: string, finish?: string, error?: string, stats?: Stats, thoughts?: string,
 *   calls?: Call[], call?: string, rating?: "up" | "down", citations?: import("./grounded.js").Citation[]}} Message
 *   `parent` null: the first; `finish`: OpenAI's word, or "cancelled"; `error`: a sentence; `call`: the id of the call
 *   that a tool's message answers
 * @typedef {{system: string, [name: string]: string | number | null}} Settings null: the server's default
 * @typedef {{id: string, title: string, created: number, updated: number, tip: string | null, settings: Settings,
 *   messages: Message[]}} Conversation a message stands after its parent; times in milliseconds
 */

/** @typedef {"settings" | "model" | "theme" | "mirror" | "mirrored"} Preference */

const PREFIX = "octavo.conversation.";
const FORMAT = "octavo-conversations";
const TITLE_LENGTH = 60;

/** The sampling settings, by the API's names. */
export const SAMPLING = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: "any", hint: "0 takes the likeliest word." },
  { name: "top_p", label: "Top p", min: 0, max: 1, step: "any", hint: "Keeps the likeliest words up to this share." },
  { name: "top_k", label: "Top k", min: 0, max: 1e6, step: 1, hint: "Keeps this many words; 0 keeps all." },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: "any", hint: "Drops words below this share of the best." },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0.01, max: 100, step: "any", hint: "1 is off." },
  { name: "max_completion_tokens", label: "Longest answer", min: 1, max: 1e6, step: 1, hint: "In tokens." },
  { name: "seed", label: "Seed", min: 0, max: 2 ** 53 - 1, step: 1, hint: "The same seed, the same answer." },
];

const isPlain = (/** @type {any} */ value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Settings that are JSON texts; an empty one asks for nothing. */
export const FORMS = [
  { name: "schema", label: "Form of the answers", hint: "A JSON schema that every answer keeps.", fits: isPlain,
    example: '{"type": "object", "properties": {"city": {"type": "string"}}}' },
  { name: "tools", label: "Tools", hint: "A list of functions the model may call; you give their results.",
    fits: Array.isArray, example: '[{"name": "weather", "parameters": {"type": "object"}}]' },
];

/**
 * The value of such a setting, null for an empty one, undefined when it is not what it should be.
 * @param {(typeof FORMS)[number]} form
 * @param {unknown} text
 */
export function formValue(form, text) {
  if (typeof text !== "string" || text.trim() === "") return null;
  try {
    const value = JSON.parse(text);
    return form.fits(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** @returns {Settings} */
export function defaultSettings() {
  const forms = Object.fromEntries(FORMS.map(({ name }) => [name, ""]));
  return { system: "", documents: "", ...forms, probabilities: null, ...Object.fromEntries(SAMPLING.map(({ name }) => [name, null])) };
}

export class Store {
  #storage;
  #conversations = /** @type {Map<string, Conversation>} */ (new Map());
  #saved = (/** @type {string} */ _id) => {};
  #removed = (/** @type {string} */ _id) => {};

  /** Stored conversations that could not be read; they are left as they are. */
  unreadable = 0;

  /** @param {Storage} [storage] */
  constructor(storage = localStorage) {
    this.#storage = storage;
    for (let index = 0; index < storage.length; index++) {
      const key = /** @type {string} */ (storage.key(index));
      if (key.startsWith(PREFIX) && !this.reload(key)) this.unreadable++;
    }
  }

  /**
   * Read an entry again, after another tab wrote it.
   * @param {string} key
   * @returns {boolean} false when it cannot be read
   */
  reload(key) {
    if (!key.startsWith(PREFIX)) return true;
    const text = this.#storage.getItem(key);
    this.#conversations.delete(key.slice(PREFIX.length));
    if (text === null) return true;
    try {
      const conversation = checkConversation(JSON.parse(text));
      this.#conversations.set(conversation.id, conversation);
      return true;
    } catch {
      return false;
    }
  }

  /** @param {string} id */
  get(id) {
    return this.#conversations.get(id) ?? null;
  }

  /**
   * Conversations that hold every word of the query in their title or text, newest first.
   * @param {string} [query]
   */
  list(query = "") {
    const words = fold(query).split(/\s+/).filter(Boolean);
    return [...this.#conversations.values()]
      .filter((conversation) => {
        if (words.length === 0) return true;
        const text = fold([conversation.title, ...conversation.messages.map(({ content }) => content)].join("\n"));
        return words.every((word) => text.includes(word));
      })
      .sort((first, second) => second.updated - first.updated);
  }

  /**
   * Keep a conversation. Throws an Error with a sentence when the browser's storage is full.
   * @param {Conversation} conversation
   */
  save(conversation) {
    this.#keep(conversation);
    this.#saved(conversation.id);
  }

  /** @param {string} id */
  remove(id) {
    this.drop(id);
    this.#removed(id);
  }

  /**
   * Be told of what is saved and removed here.
   * @param {(id: string) => void} saved
   * @param {(id: string) => void} removed
   */
  watch(saved, removed) {
    this.#saved = saved;
    this.#removed = removed;
  }

  /**
   * Keep a conversation that came from elsewhere; throws an Error with a sentence when it is none.
   * @param {unknown} value
   * @returns {string} its id
   */
  take(value) {
    const conversation = checkConversation(value);
    this.#keep(conversation);
    return conversation.id;
  }

  /** Forget a conversation that is gone elsewhere. @param {string} id */
  drop(id) {
    this.#conversations.delete(id);
    this.#storage.removeItem(PREFIX + id);
    return id;
  }

  /** @param {Conversation} conversation */
  #keep(conversation) {
    this.#conversations.set(conversation.id, conversation);
    this.#write(PREFIX + conversation.id, conversation);
  }

  /** All conversations as the text of a file. */
  exportAll() {
    return JSON.stringify({ format: FORMAT, version: 1, conversations: this.list() }, null, 1);
  }

  /**
   * Take in the conversations of an exported file; of two with one id the later one stays.
   * Throws an Error with a sentence, and changes nothing, when the file is not one.
   * @param {string} text
   * @returns {number} how many were new or later
   */
  importAll(text) {
    let file;
    try {
      file = JSON.parse(text);
    } catch {
      throw new Error("This file is not JSON.");
    }
    if (file?.format !== FORMAT || file.version !== 1 || !Array.isArray(file.conversations)) {
      throw new Error("This file holds no conversations exported from Octavo.");
    }
    const conversations = file.conversations.map(checkConversation);
    const wanted = conversations.filter(({ id, updated }) => updated > (this.get(id)?.updated ?? -1));
    wanted.forEach((conversation) => this.save(conversation));
    return wanted.length;
  }

  /**
   * A preference, or null when there is none.
   * @param {Preference} name
   */
  preference(name) {
    try {
      const value = JSON.parse(this.#storage.getItem(`octavo.${name}`) ?? "null");
      return name === "settings" && value !== null ? checkSettings(value) : value;
    } catch {
      return null;
    }
  }

  /**
   * @param {Preference} name
   * @param {unknown} value null forgets it
   */
  prefer(name, value) {
    if (value === null) this.#storage.removeItem(`octavo.${name}`);
    else this.#write(`octavo.${name}`, value);
  }

  /**
   * @param {string} key
   * @param {unknown} value
   */
  #write(key, value) {
    try {
      this.#storage.setItem(key, JSON.stringify(value));
    } catch {
      throw new Error("The browser's storage is full. Export your conversations, then delete some.");
    }
  }
}

/**
 * @param {Settings} settings
 * @returns {Conversation}
 */
export function newConversation(settings) {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, tip: null, settings: { ...settings }, messages: [] };
}

/**
 * Add a message after `parent` and show it. The first question gives the conversation its title.
 * @param {Conversation} conversation
 * @param {string | null} parent
 * @param {Message["role"]} role
 * @param {string} content
 * @returns {Message}
 */
export function addMessage(conversation, parent, role, content) {
  const message = { id: newId(), parent, role, content, created: Date.now() };
  conversation.messages.push(message);
  conversation.tip = message.id;
  conversation.updated = message.created;
  if (!conversation.title && role === "user") conversation.title = titleOf(content);
  return message;
}

/**
 * The messages shown: from the first to `last`.
 * @param {Conversation} conversation
 * @param {string | null} [last]
 * @returns {Message[]}
 */
export function pathTo(conversation, last = conversation.tip) {
  const byId = new Map(conversation.messages.map((message) => [message.id, message]));
  const path = [];
  for (let message = byId.get(last ?? ""); message; message = byId.get(message.parent ?? "")) path.push(message);
  return path.reverse();
}

/**
 * The versions of a message, itself included, oldest first.
 * @param {Conversation} conversation
 * @param {Message} message
 */
export function versions(conversation, message) {
  return conversation.messages.filter(({ parent }) => parent === message.parent);
}

/**
 * Show a version of a message, with the latest that followed it.
 * @param {Conversation} conversation
 * @param {Message} message
 */
export function showVersion(conversation, message) {
  let tip = message.id;
  for (let child; (child = conversation.messages.findLast(({ parent }) => parent === tip)); ) tip = child.id;
  conversation.tip = tip;
}

/** @param {string} text */
function titleOf(text) {
  const line = text.trim().split("\n")[0].replace(/\s+/g, " ");
  return line.length <= TITLE_LENGTH ? line : `${line.slice(0, TITLE_LENGTH - 1).trimEnd()}…`;
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12)); // randomUUID exists only in secure contexts
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Without case and accents. @param {string} text */
function fold(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}

/**
 * A conversation built from known fields alone; throws an Error with a sentence when one is wrong.
 * @param {any} value
 * @returns {Conversation}
 */
function checkConversation(value) {
  const conversation = {
    id: check(value?.id, isId, "id"),
    title: check(value.title, isText, "title"),
    created: check(value.created, Number.isFinite, "created"),
    updated: check(value.updated, Number.isFinite, "updated"),
    tip: check(value.tip, (tip) => tip === null || isId(tip), "tip"),
    settings: checkSettings(value.settings),
    messages: check(value.messages, Array.isArray, "messages").map(checkMessage),
  };
  const known = new Set();
  for (const { id, parent } of conversation.messages) {
    if (known.has(id)) throw new Error("A conversation in this file has two messages with one id.");
    if (parent !== null && !known.has(parent)) throw new Error("A message in this file has no place to stand.");
    known.add(id);
  }
  if (conversation.tip !== null && !known.has(conversation.tip)) throw new Error("A conversation has no such end.");
  return conversation;
}

/** @param {any} value @returns {Message} */
function checkMessage(value) {
  const optional = (/** @type {any} */ field) => field === undefined || isText(field);
  const { model, finish, error, stats, thoughts, calls, call, rating, citations } = value ?? {};
  return {
    id: check(value?.id, isId, "message id"),
    parent: check(value.parent, (parent) => parent === null || isId(parent), "parent"),
    role: check(value.role, (role) => ["user", "assistant", "tool"].includes(role), "role"),
    content: check(value.content, isText, "content"),
    created: check(value.created, Number.isFinite, "created"),
    model: check(model, optional, "model"),
    finish: check(finish, optional, "finish"),
    error: check(error, optional, "error"),
    stats: stats === undefined ? undefined : checkStats(stats),
    thoughts: check(thoughts, optional, "thoughts"),
    calls: calls === undefined ? undefined : check(calls, Array.isArray, "calls").map(checkCall),
    call: check(call, optional, "call"),
    rating: check(rating, (mark) => [undefined, "up", "down"].includes(mark), "rating"),
    citations: citations === undefined ? undefined : check(citations, Array.isArray, "citations").map(checkCitation),
  };
}

/** @param {any} value @returns {import("./grounded.js").Citation} */
function checkCitation(value) {
  const absent = (/** @type {any} */ field) => field === null || Number.isInteger(field);
  return {
    number: check(value?.number, Number.isInteger, "citation"),
    file: check(value.file, isId, "citation"),
    collection: check(value.collection, isId, "citation"),
    name: check(value.name, isText, "citation"),
    start: check(value.start, Number.isInteger, "citation"),
    end: check(value.end, Number.isInteger, "citation"),
    page: check(value.page, absent, "citation"),
    line: check(value.line, absent, "citation"),
    text: check(value.text, isText, "citation"),
  };
}

/** @param {any} value @returns {Call} */
function checkCall(value) {
  return {
    id: check(value?.id, isText, "call"),
    name: check(value.name, isText, "call"),
    arguments: check(value.arguments, isText, "call"),
  };
}

/** @param {any} value @returns {Stats} */
function checkStats(value) {
  const absent = (/** @type {any} */ field) => field === null || Number.isFinite(field);
  return {
    tokens: check(value?.tokens, Number.isFinite, "tokens"),
    prompt: check(value.prompt, Number.isFinite, "prompt"),
    firstToken: check(value.firstToken, Number.isFinite, "firstToken"),
    speed: check(value.speed, absent, "speed"),
    context: check(value.context, absent, "context"),
  };
}

/** @param {any} value @returns {Settings} */
function checkSettings(value) {
  const settings = { ...defaultSettings(), system: check(value?.system, isText, "system") };
  for (const { name, min, max } of SAMPLING) {
    const fits = (/** @type {any} */ number) =>
      number === null || (Number.isFinite(number) && number >= min && number <= max);
    settings[name] = check(value[name] ?? null, fits, name);
  }
  for (const { name } of FORMS) settings[name] = check(value[name] ?? "", isText, name);
  const areIds = (/** @type {any} */ ids) => isText(ids) && ids.split(" ").every((id) => id === "" || isId(id));
  settings.documents = check(value.documents ?? "", areIds, "documents");
  settings.probabilities = check(value.probabilities ?? null, (/** @type {any} */ on) => on === null || on === 1,
    "probabilities");
  return settings;
}

/** @param {any} value */
const isText = (value) => typeof value === "string";
/** @param {any} value */
const isId = (value) => isText(value) && /^[\w-]{1,64}$/.test(value);

/**
 * @param {any} value
 * @param {(value: any) => boolean} valid
 * @param {string} name
 */
function check(value, valid, name) {
  if (!valid(value)) throw new Error(`A conversation in this file has a wrong “${name}”.`);
  return value;
}
