/**
 * The same conversations on the server, where the reader asks for it: two browsers with one key then show one list.
 *
 * This browser's store stays what the page works on. A change is sent a moment after it, and what others changed is
 * fetched when the page is opened or looked at again. Of two versions the later one stays; what another browser
 * deleted is deleted here, which is told by what was seen on the server before.
 */

import { deleteKept, fetchKept, keepOnServer, listKept } from "./api.js";

const WAIT = 800; // milliseconds after a change until it is sent

export class Mirror {
  #store;
  #changed;
  #timers = /** @type {Map<string, number>} */ (new Map());
  #working = Promise.resolve();

  /**
   * @param {import("./store.js").Store} store
   * @param {(ids: string[]) => void} changed called with the conversations that came, changed or went
   */
  constructor(store, changed) {
    this.#store = store;
    this.#changed = changed;
    store.watch(
      (id) => this.on && this.#later(id),
      (id) => this.on && this.#soon(() => this.#forget(id)),
    );
  }

  get on() {
    return this.#store.preference("mirror") === true;
  }

  /** Turn it on, which brings both sides together, or off, which leaves both as they are. @param {boolean} wanted */
  async turn(wanted) {
    this.#store.prefer("mirror", wanted || null);
    this.#store.prefer("mirrored", null);
    if (!wanted) return;
    try {
      await this.sync();
    } catch (error) {
      this.#store.prefer("mirror", null);
      throw error;
    }
  }

  /** Bring both sides together. Throws an ApiError when the server does not. */
  async sync() {
    if (this.on) await this.#soon(() => this.#bring());
  }

  async #bring() {
    const seen = new Set(this.#seen());
    const there = new Map((await listKept()).map(({ id, updated }) => [id, updated]));
    const changed = [];
    for (const [id, updated] of there) {
      const here = this.#store.get(id)?.updated ?? -1;
      if (here < 0 && seen.has(id)) await deleteKept(id); // deleted here, and the server did not hear of it
      else if (here < updated) changed.push(this.#store.take(await fetchKept(id)));
      else if (here > updated) await this.#send(id);
    }
    for (const { id } of this.#store.list()) {
      if (there.has(id)) continue;
      if (!seen.has(id)) await this.#send(id);
      else changed.push(this.#store.drop(id));
    }
    this.#store.prefer("mirrored", this.#store.list().map(({ id }) => id));
    if (changed.length > 0) this.#changed(changed);
  }

  /** @param {string} id */
  async #send(id) {
    const conversation = this.#store.get(id);
    if (!conversation) return;
    await keepOnServer(conversation);
    this.#store.prefer("mirrored", [...new Set([...this.#seen(), id])]);
  }

  /** @param {string} id */
  async #forget(id) {
    clearTimeout(this.#timers.get(id));
    await deleteKept(id);
    this.#store.prefer("mirrored", this.#seen().filter((other) => other !== id));
  }

  /** What was on both sides. @returns {string[]} */
  #seen() {
    return this.#store.preference("mirrored") ?? [];
  }

  /** @param {string} id */
  #later(id) {
    clearTimeout(this.#timers.get(id));
    this.#timers.set(id, setTimeout(() => this.#soon(() => this.#send(id)).catch(() => {}), WAIT));
  }

  /** One thing at a time, in order. @param {() => Promise<void>} work */
  #soon(work) {
    const done = this.#working.then(work);
    this.#working = done.catch(() => {}); // the next bringing together mends what failed
    return done;
  }
}
