/**
 * The conversation shown, and the answers being written, at most one a conversation.
 *
 * An answer goes on while another conversation is shown. It is saved every second, so that a reload loses little.
 */

import { ApiError, streamChat } from "./api.js";
import { MessageView } from "./message.js";
import { SAMPLING, addMessage, defaultSettings, newConversation, pathTo, showVersion, versions } from "./store.js";

/**
 * @typedef {import("./store.js").Conversation} Conversation
 * @typedef {import("./store.js").Message} Message
 * @typedef {{conversation: Conversation, message: Message, controller: AbortController, asked: number,
 *   first: number, last: number, pieces: number, context: number | null, saved: number}} Run times in milliseconds
 */

const SAVE_EVERY = 1000;

export class Chat {
  #store;
  #page;
  #runs = /** @type {Map<string, Run>} */ (new Map());
  #views = /** @type {Map<string, MessageView>} */ (new Map());
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
      focus: this.#page.focus,
    };
    this.#views.clear();
    const elements = pathTo(this.conversation).map((message) => {
      const view = new MessageView(message, versions(this.conversation, message), actions);
      view.update(this.#runs.get(this.conversation.id)?.message === message);
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
    for await (const piece of streamChat(requestBody(run.conversation, question, model.id), run.controller.signal)) {
      if (run.controller.signal.aborted) return;
      if (piece.text) this.#grow(run, piece.text);
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
      this.#views.get(run.message.id)?.update(true);
      this.#page.grew();
    });
  }

  /** @param {Run} run */
  #end(run) {
    this.#runs.delete(run.conversation.id);
    run.conversation.updated = Date.now();
    this.#save(run.conversation);
    if (run.conversation !== this.conversation) return;
    this.#views.get(run.message.id)?.update();
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
 * @param {Conversation} conversation
 * @param {Message} question the last message of the request
 * @param {string} model
 */
function requestBody(conversation, question, model) {
  const { settings } = conversation;
  const turns = pathTo(conversation, question.id)
    .filter(({ content }) => content !== "") // an answer that failed has no words
    .map(({ role, content }) => ({ role, content }));
  const system = settings.system.trim() ? [{ role: "system", content: settings.system }] : [];
  const chosen = SAMPLING.filter(({ name }) => settings[name] !== null).map(({ name }) => [name, settings[name]]);
  return { model, messages: [...system, ...turns], ...Object.fromEntries(chosen) };
}

/**
 * Bring the figures of an answer up to date. Until the server counts its tokens, pieces stand for them.
 * @param {Run} run
 * @param {import("./api.js").Usage | null} usage
 */
function measure(run, usage) {
  const tokens = usage ? usage.completion_tokens : run.pieces;
  const seconds = (run.last - run.first) / 1000;
  run.message.stats = {
    tokens,
    prompt: usage ? usage.prompt_tokens : 0,
    firstToken: run.first ? (run.first - run.asked) / 1000 : 0,
    speed: tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : null,
    context: run.context,
  };
}
