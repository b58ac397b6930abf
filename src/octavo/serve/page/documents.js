/**
 * The documents panel: collections of files, which of them the conversation asks, and how far their indexing is.
 *
 * A collection is a vector store of the server. Files dropped anywhere on the page go into the page's own, "My documents".
 */

import { h, iconButton } from "./dom.js";
import { closeFromOutside, ask } from "./settings.js";
import { addFile, listCollections, listFiles, makeCollection, removeFile } from "./grounded.js";

/**
 * @typedef {import("./grounded.js").Collection} Collection
 * @typedef {import("./grounded.js").StoredFile} StoredFile
 */

const LOOK_EVERY = 700; // milliseconds between looks while something is indexed
const SHOWN_FILES = 100;
const NUMBER = new Intl.NumberFormat("en");

export class DocumentsPanel {
  #page;
  #dialog;
  #collections = h("div", { id: "collections" });
  #status = h("p", { class: "hint", role: "status" });
  #problem = h("div", { class: "error", role: "alert", hidden: true });
  #picker = h("input", { type: "file", multiple: true, hidden: true, "aria-label": "Files to add" });
  #views = /** @type {Map<string, CollectionView>} */ (new Map());
  #looking = false;
  #sending = 0;

  /**
   * @param {{asked(): string[], choose(ids: string[]): void, view(collection: string, file: StoredFile): void,
   *   changed(): void, key(again: () => void): void}} page `asked`: the collections that the conversation asks; `view` opens a document
   */
  constructor(page) {
    this.#page = page;
    this.#dialog = this.#build();
    document.body.append(this.#dialog);
    this.#picker.addEventListener("change", () => {
      this.add([...this.#picker.files]);
      this.#picker.value = "";
    });
    closeFromOutside(this.#dialog);
    this.#listenToDrops();
  }

  async open() {
    if (!this.#dialog.open) this.#dialog.showModal();
    await this.refresh();
  }

  /** Names of these collections, for whoever wants to say them. @param {string[]} ids */
  names(ids) {
    return ids.map((id) => this.#views.get(id)?.name ?? "documents");
  }

  /** Fetch what the server has, and look again while it indexes. */
  async refresh() {
    try {
      const collections = await listCollections();
      for (const [id, view] of this.#views) {
        if (collections.some((collection) => collection.id === id)) continue;
        view.element.remove();
        this.#views.delete(id);
      }
      for (const collection of collections) await this.#show(collection);
      const known = this.#page.asked().filter((id) => this.#views.has(id));
      if (known.length < this.#page.asked().length) this.#page.choose(known);
      this.#problem.hidden = true;
      this.#page.changed();
      this.#tell(collections);
      if (collections.some(({ busy }) => busy)) this.#lookAgain();
    } catch (error) {
      this.#fail(error, () => this.refresh());
    }
  }

  /**
   * Put files into the page's own collection, and ask it from now on.
   * @param {File[]} files
   */
  async add(files) {
    if (files.length === 0) return;
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#sending += files.length;
    this.#tell([]);
    try {
      const mine = (await listCollections()).find(({ own }) => own) ?? (await makeCollection());
      if (!this.#page.asked().includes(mine.id)) this.#page.choose([...this.#page.asked(), mine.id]);
      for (const file of files) {
        await addFile(mine.id, file);
        this.#sending--;
        await this.refresh();
      }
    } catch (error) {
      this.#sending = 0;
      await this.refresh();
      this.#fail(error, null);
    }
  }

  /** @param {Collection} collection */
  async #show(collection) {
    let view = this.#views.get(collection.id);
    if (!view) {
      view = new CollectionView(collection.id, {
        toggle: (on) => {
          const others = this.#page.asked().filter((id) => id !== collection.id);
          this.#page.choose(on ? [...others, collection.id] : others);
        },
        view: (file) => this.#page.view(collection.id, file),
        remove: (file) => this.#remove(file),
      });
      this.#views.set(collection.id, view);
      this.#collections.append(view.element);
    }
    const asked = this.#page.asked().includes(collection.id);
    if (view.stale(collection)) view.fill(collection, await listFiles(collection.id, SHOWN_FILES), asked);
    else view.mark(asked);
  }

  /** @param {StoredFile} file */
  async #remove(file) {
    const text = `“${file.name}” and all that was indexed of it is removed from the server.`;
    if ((await ask({ title: "Delete this document?", text, confirm: "Delete" })) === null) return;
    try {
      await removeFile(file.id);
    } catch (error) {
      this.#fail(error, null);
    }
    await this.refresh();
  }

  #lookAgain() {
    if (this.#looking) return;
    this.#looking = true;
    setTimeout(() => {
      this.#looking = false;
      this.refresh();
    }, LOOK_EVERY);
  }

  /** @param {Collection[]} collections */
  #tell(collections) {
    const busy = collections.find((collection) => collection.busy);
    if (this.#sending) this.#status.textContent = `Sending ${counted(this.#sending, "file")} …`;
    else if (busy) this.#status.textContent = `Indexing “${busy.name}” …`;
    else if (this.#status.textContent) this.#status.textContent = "All documents are indexed.";
  }

  /**
   * @param {any} error
   * @param {(() => void) | null} again
   */
  #fail(error, again) {
    if (error.kind === "key") {
      this.#dialog.close();
      this.#page.key(() => this.open());
      return;
    }
    const act = again ?? (() => { this.#problem.hidden = true; });
    const button = h("button", { type: "button", class: "text", onclick: act }, again ? "Try again" : "Close");
    this.#problem.replaceChildren(h("p", {}, error.message), button);
    this.#problem.hidden = false;
  }

  #build() {
    const close = iconButton("close", "Close the documents", () => this.#dialog.close());
    const add = h("button", { type: "button", class: "filled", onclick: () => this.#picker.click() }, "Add files");
    return h("dialog", { id: "documents", "aria-labelledby": "documents-title" },
      h("div", { class: "row" }, h("h2", { id: "documents-title" }, "Documents"), close),
      h("p", { class: "hint" }, "Answers rest on the collections that are ticked, and say where they found it."),
      h("div", { class: "drop" }, add, h("span", {}, "or drop them on the page"), this.#picker),
      this.#status, this.#problem, this.#collections);
  }

  #listenToDrops() {
    const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
    let inside = 0; // elements that the pointer is in
    const show = (/** @type {number} */ change) => {
      inside = Math.max(0, inside + change);
      document.body.classList.toggle("dropping", inside > 0);
    };
    addEventListener("dragenter", (event) => hasFiles(event) && show(1));
    addEventListener("dragleave", (event) => hasFiles(event) && show(-1));
    addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      show(-inside);
      this.add([...(event.dataTransfer?.files ?? [])]);
    });
  }
}

class CollectionView {
  #actions;
  #shown = "";
  #box = h("input", { type: "checkbox" });
  #name = h("span", { class: "name" });
  #count = h("span", { class: "hint" });
  #files = h("ul");
  #more = h("p", { class: "hint", hidden: true });
  #list;

  /**
   * @param {string} id
   * @param {{toggle(on: boolean): void, view(file: StoredFile): void, remove(file: StoredFile): void}} actions
   */
  constructor(id, actions) {
    this.#actions = actions;
    this.name = "";
    this.#box.addEventListener("change", () => actions.toggle(this.#box.checked));
    const label = h("label", { class: "check" }, this.#box, this.#name);
    this.#list = h("details", {}, h("summary", {}, this.#count), this.#files, this.#more);
    this.element = h("section", { class: "collection", "data-id": id }, label, this.#list);
  }

  /** Whether the server has something else than what is shown. @param {Collection} collection */
  stale(collection) {
    return collection.busy || JSON.stringify(collection) !== this.#shown;
  }

  /** @param {boolean} asked */
  mark(asked) {
    this.#box.checked = asked;
  }

  /**
   * @param {Collection} collection
   * @param {StoredFile[]} files
   * @param {boolean} asked
   */
  fill(collection, files, asked) {
    if (this.#shown === "") this.#list.open = !collection.shared;
    this.#shown = JSON.stringify(collection);
    this.name = this.#name.textContent = collection.name;
    this.element.setAttribute("aria-label", collection.name);
    const { done, total, failed } = collection;
    const parts = [collection.busy && total > done + failed ? `${done} of ${counted(total, "document")} indexed`
      : counted(done, "document"), failed ? `${failed} could not be read` : ""];
    this.#count.textContent = parts.filter(Boolean).join(" · ");
    this.mark(asked);
    const focused = this.#files.contains(document.activeElement) ? document.activeElement?.getAttribute("data-key") : null;
    this.#files.replaceChildren(...files.map((file) => this.#row(file, collection.shared)));
    if (focused) /** @type {any} */ (this.#files.querySelector(`[data-key="${focused}"]`))?.focus();
    this.#more.hidden = total <= files.length;
    this.#more.textContent = `And ${NUMBER.format(total - files.length)} more.`;
  }

  /**
   * @param {StoredFile} file
   * @param {boolean} shared it lies in a folder of the server's, which the page does not change
   */
  #row(file, shared) {
    const open = h("button", { type: "button", class: "entry", title: file.name, "data-key": `open-${file.id}`,
      disabled: file.status !== "completed", onclick: () => this.#actions.view(file) }, file.name);
    const remove = iconButton("remove", `Delete “${file.name}”`, () => this.#actions.remove(file));
    remove.dataset.key = `remove-${file.id}`;
    const bar = h("progress", { max: 1, "aria-label": `Indexing ${file.name}` });
    if (file.progress !== null) bar.value = file.progress;
    const problem = file.problem ? h("p", { class: "problem" }, file.problem) : null;
    return h("li", {}, h("div", { class: "row" }, open, shared ? null : remove),
      file.status === "in_progress" ? bar : null, problem);
  }
}

/**
 * @param {number} count
 * @param {string} what
 */
function counted(count, what) {
  return `${NUMBER.format(count)} ${what}${count === 1 ? "" : "s"}`;
}
