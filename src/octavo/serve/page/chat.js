/**
 * The conversation shown, and the answers being written, at most one a conversation.
 *
 * An answer goes on while another conversation is shown. It is saved every second, so that a reload loses little.
 */

import { ApiError, rate, streamChat } from "./api.js";
import { streamGrounded } from "./grounded.js";
import { MessageView } from "./message.js";
import {
  FORMS, SAMPLING, addMessage, defaultSettings, formValue, newConversation, pathTo, showVersion, versions,
} from "./store.js";

/**
 * @typedef {import("./store.js").Conversation} Conversation
 * @typedef {import("./store.js").Message} Message
 * @typedef {{conversation: Conversation, message: Message, controller: AbortController, asked: number,
 *   first: number, last: number, pieces: number, context: number | null, saved: number}} Run times in milliseconds
 */

const SAVE_EVERY = 1000;
const ALTERNATIVES = 5; // shown for each token

export class Chat {
  #store;
  #page;
  #runs = /** @type {Map<string, Run>} */ (new Map());
  #views = /** @type {Map<string, MessageView>} */ (new Map());
  #tokens = /** @type {WeakMap<Message, import("./api.js").Token[]>} */ (new WeakMap()); // too large to store
  #waiting = false; // for the next frame

  /**
   * @param {import("./store.js").Store} store
   * @param {{messages: HTMLElement, speaker: import("./speech.js").Speaker, changed(): void, grew(): void,
   *   failed(error: ApiError, again: () => void): void, complain(message: string): void, focus(): void,
   *   model(): Promise<import("./api.js").Model>}} page
   */
  constructor(store, page) {
    this.#store = store;
    this.#page = page;
    this.conversation = this.#fresh();
  }

  get busy() {
    return this.#runs.has(this.conversation.id);
  }

  /** Show a stored conversation, or with null an empty one. @param {string | null} id */
  open(id) {
    this.conversation = (id && this.#store.get(id)) || this.#fresh();
    this.render();
  }

  #fresh() {
    return newConversation(this.#store.preference("settings") ?? defaultSettings());
  }

  /** Build the log anew. */
  render() {
    const actions = {
      again: (/** @type {Message} */ message) => this.regenerate(message),
      edit: (/** @type {Message} */ message, /** @type {string} */ text) => this.edit(message, text),
      show: (/** @type {Message} */ message) => this.#show(message),
      rate: (/** @type {Message} */ message, /** @type {"up" | "down" | null} */ rating) => this.#rate(message, rating),
      results: (/** @type {Message} */ message, /** @type {string[]} */ texts) => this.#giveResults(message, texts),
      tokens: (/** @type {Message} */ message) => this.#tokens.get(message) ?? null,
      focus: this.#page.focus,
    };
    this.#views.clear();
    const elements = pathTo(this.conversation).map((message) => {
      const view = new MessageView(message, versions(this.conversation, message), actions);
      this.#update(message, view);
      this.#views.set(message.id, view);
      return view.element;
    });
    this.#page.messages.replaceChildren(...elements);
    this.#page.changed();
  }

  /** Ask something at the end of the conversation. @param {string} text */
  send(text) {
    if (this.busy) return;
    const question = addMessage(this.conversation, this.conversation.tip, "user", text);
    this.#answer(question);
  }

  /** Another answer beside this one, or in its place when it came to nothing. @param {Message} message */
  regenerate(message) {
    if (this.busy) this.stop();
    const { messages } = this.conversation;
    const question = messages.find(({ id }) => id === message.parent);
    const vain = message.content === "" && !messages.some(({ parent }) => parent === message.id);
    if (vain) messages.splice(messages.indexOf(message), 1);
    if (question) this.#answer(question);
  }

  /**
   * Ask anew in the place of a question; the earlier one is kept as a version.
   * @param {Message} message
   * @param {string} text
   */
  edit(message, text) {
    if (this.busy) this.stop();
    this.#answer(addMessage(this.conversation, message.parent, "user", text));
  }

  /**
   * The results of an answer's calls; the model goes on from them.
   * @param {Message} message
   * @param {string[]} texts
   */
  #giveResults(message, texts) {
    if (this.busy) return;
    let last = message;
    message.calls?.forEach(({ id }, index) => {
      last = addMessage(this.conversation, last.id, "tool", texts[index]);
      last.call = id;
    });
    this.#answer(last);
  }

  /**
   * @param {Message} message
   * @param {"up" | "down" | null} rating
   */
  async #rate(message, rating) {
    const { conversation } = this;
    const before = message.rating;
    message.rating = rating ?? undefined;
    this.#save(conversation);
    const question = conversation.messages.find(({ id }) => id === message.parent);
    if (!question) return;
    const answer = { id: message.id, model: message.model, completion: message.content };
    try {
      await rate({ ...answer, messages: requestMessages(conversation, question) }, rating);
    } catch (error) {
      message.rating = before;
      this.#save(conversation);
      if (conversation === this.conversation) this.render();
      this.#page.complain(/** @type {Error} */ (error).message);
    }
  }

  /**
   * @param {Message} message
   * @param {MessageView | undefined} view
   */
  #update(message, view = this.#views.get(message.id)) {
    const open = this.#runs.get(this.conversation.id)?.message === message;
    view?.update(open, this.conversation.tip === message.id);
  }

  /** Edit the last question shown. */
  editLast() {
    const last = pathTo(this.conversation).findLast(({ role }) => role === "user");
    if (last) this.#views.get(last.id)?.edit();
  }

  /** Stop the answer of the conversation shown, or of another. */
  stop(id = this.conversation.id) {
    const run = this.#runs.get(id);
    if (!run) return;
    run.message.finish = "cancelled";
    run.controller.abort();
    this.#end(run);
  }

  /** Keep what has arrived: the page is going away. */
  saveAll() {
    for (const run of this.#runs.values()) this.#save(run.conversation);
  }

  /** @param {Message} message */
  #show(message) {
    if (this.busy) this.stop();
    showVersion(this.conversation, message);
    this.#save(this.conversation);
    this.render();
  }

  /** @param {Message} question */
  async #answer(question) {
    const conversation = this.conversation;
    const message = addMessage(conversation, question.id, "assistant", "");
    const now = performance.now();
    const timing = { asked: now, first: 0, last: 0, pieces: 0, context: null, saved: now };
    const run = { conversation, message, controller: new AbortController(), ...timing };
    this.#runs.set(conversation.id, run);
    this.#save(conversation);
    this.render();
    try {
      await this.#receive(run, question);
    } catch (error) {
      if (!run.controller.signal.aborted) this.#fail(run, error);
    }
    if (this.#runs.get(conversation.id) === run) this.#end(run);
  }

  /**
   * @param {Run} run
   * @param {Message} question
   */
  async #receive(run, question) {
    const model = await this.#page.model();
    if (run.controller.signal.aborted) return;
    run.message.model = model.id;
    run.context = model.context;
    if (run.conversation === this.conversation) this.render(); // with the author's name
    run.asked = performance.now();
    for await (const piece of answerPieces(run, question, model.id)) {
      if (run.controller.signal.aborted) return;
      if (piece.tokens) this.#tokens.set(run.message, [...(this.#tokens.get(run.message) ?? []), ...piece.tokens]);
      if (piece.call) takeCall(run.message, piece.call);
      if (piece.citation) run.message.citations = [...(run.message.citations ?? []), piece.citation];
      if (piece.thought) run.message.thoughts = (run.message.thoughts ?? "") + piece.thought;
      if (piece.text || piece.thought || piece.call) this.#grow(run, piece.text ?? "");
      if (piece.finish) run.message.finish = piece.finish;
      if (piece.usage) measure(run, piece.usage);
    }
  }

  /**
   * @param {Run} run
   * @param {string} text
   */
  #grow(run, text) {
    const now = performance.now();
    run.first ||= now;
    run.last = now;
    run.pieces++;
    run.message.content += text;
    measure(run, null);
    if (now - run.saved > SAVE_EVERY) {
      run.saved = now;
      this.#save(run.conversation);
    }
    if (run.conversation !== this.conversation) return;
    this.#page.speaker.add(text);
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      if (this.#runs.get(run.conversation.id) !== run) return;
      this.#update(run.message);
      this.#page.grew();
    });
  }

  /** @param {Run} run */
  #end(run) {
    this.#runs.delete(run.conversation.id);
    run.conversation.updated = Date.now();
    this.#save(run.conversation);
    if (run.conversation !== this.conversation) return;
    this.#update(run.message);
    this.#page.speaker.finish();
    if (run.message.finish === "cancelled") this.#page.speaker.say("Stopped.");
    this.#page.changed();
    this.#page.grew();
  }

  /**
   * @param {Run} run
   * @param {unknown} error
   */
  #fail(run, error) {
    const known = error instanceof ApiError;
    run.message.error = known ? error.message : "The page failed. Reload it and try again.";
    if (!known) console.error(error);
    const shown = run.conversation === this.conversation;
    if (known && shown) this.#page.failed(error, () => this.regenerate(run.message));
  }

  /** @param {Conversation} conversation */
  #save(conversation) {
    try {
      this.#store.save(conversation);
    } catch (error) {
      this.#page.complain(/** @type {Error} */ (error).message);
    }
  }
}

/**
 * From the model alone, or from the documents that the conversation asks.
 * @param {Run} run
 * @param {Message} question
 * @param {string} model
 * @returns {AsyncGenerator<import("./api.js").Piece & {citation?: import("./grounded.js").Citation}>}
 */
function answerPieces({ conversation, controller }, question, model) {
  const body = requestBody(conversation, question, model);
  const asked = askedDocuments(conversation.settings);
  return asked.length ? streamGrounded(body, asked, controller.signal) : streamChat(body, controller.signal);
}

/** The collections that a conversation asks. @param {import("./store.js").Settings} settings */
export function askedDocuments({ documents }) {
  return String(documents ?? "").split(" ").filter(Boolean);
}

/**
 * @param {Conversation} conversation
 * @param {Message} question the last message of the request
 * @param {string} model
 */
function requestBody(conversation, question, model) {
  const { settings } = conversation;
  const chosen = SAMPLING.filter(({ name }) => settings[name] !== null).map(({ name }) => [name, settings[name]]);
  const [schema, tools] = FORMS.map((form) => formValue(form, settings[form.name]));
  const called = tools?.map((/** @type {any} */ tool) => (tool.type ? tool : { type: "function", function: tool }));
  return {
    model,
    messages: requestMessages(conversation, question),
    ...Object.fromEntries(chosen),
    ...(schema ? { response_format: { type: "json_schema", json_schema: { name: "answer", schema } } } : {}),
    ...(called?.length ? { tools: called } : {}),
    ...(settings.probabilities ? { logprobs: true, top_logprobs: ALTERNATIVES } : {}),
  };
}

/**
 * @param {Conversation} conversation
 * @param {Message} question the last of them
 */
function requestMessages(conversation, question) {
  const { system } = conversation.settings;
  const turns = pathTo(conversation, question.id)
    .filter(({ content, calls, role }) => content !== "" || calls?.length || role === "tool") // failed: no words
    .map(({ role, content, calls, call }) => ({
      role,
      content,
      ...(calls?.length ? { tool_calls: calls.map(asToolCall) } : {}),
      ...(role === "tool" ? { tool_call_id: call } : {}),
    }));
  return [...(system.trim() ? [{ role: "system", content: system }] : []), ...turns];
}

/** @param {import("./store.js").Call} call */
function asToolCall({ id, name, arguments: given }) {
  return { id, type: "function", function: { name, arguments: given } };
}

/**
 * @param {Message} message
 * @param {import("./api.js").CallPiece} piece
 */
function takeCall(message, { index, id, name, arguments: text }) {
  message.calls ??= [];
  if (id) message.calls[index] = { id, name: name ?? "", arguments: "" };
  message.calls[index].arguments += text;
}

/**
 * Bring the figures of an answer up to date. Until the server counts its tokens, pieces stand for them.
 * @param {Run} run
 * @param {import("./api.js").Usage | null} usage
 */
function measure(run, usage) {
  const tokens = usage ? usage.completion_tokens : run.pieces;
  const seconds = (run.last - run.first) / 1000;
  const grounded = askedDocuments(run.conversation.settings).length > 0; // its text comes when it is checked
  run.message.stats = {
    tokens,
    prompt: usage ? usage.prompt_tokens : 0,
    firstToken: run.first ? (run.first - run.asked) / 1000 : 0,
    speed: tokens > 1 && seconds > 0 && !grounded ? (tokens - 1) / seconds : null,
    context: run.context,
  };
}
