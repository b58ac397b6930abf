/**
 * The dialogs: settings of a conversation, and short questions (a key, a new title, whether to delete).
 *
 * A setting takes effect as soon as it is valid; an empty field is the server's default.
 */

import { h } from "./dom.js";
import { FORMS, SAMPLING, defaultSettings, formValue } from "./store.js";

/** @typedef {import("./store.js").Settings} Settings */

export class SettingsDialog {
  #dialog = /** @type {HTMLDialogElement} */ (document.getElementById("settings"));
  #system = /** @type {HTMLTextAreaElement} */ (document.getElementById("system"));
  #probabilities = /** @type {HTMLInputElement} */ (document.getElementById("probabilities"));
  #fields = /** @type {Map<string, HTMLInputElement>} */ (new Map());
  #forms = /** @type {Map<string, HTMLTextAreaElement>} */ (new Map());

  /** @param {(settings: Settings) => void} changed */
  constructor(changed) {
    const rows = SAMPLING.map(({ name, label, hint, min, max, step }) => {
      const field = h("input", { id: name, type: "number", min, max, step, placeholder: "default" });
      field.setAttribute("aria-describedby", `${name}-hint`);
      this.#fields.set(name, field);
      return h("div", {}, h("label", { for: name }, label), field, h("p", { class: "hint", id: `${name}-hint` }, hint));
    });
    const texts = FORMS.map(({ name, label, hint, example }) => {
      const area = h("textarea", { id: name, rows: 2, placeholder: example, spellcheck: false });
      area.setAttribute("aria-describedby", `${name}-hint`);
      this.#forms.set(name, area);
      return h("div", {}, h("label", { for: name }, label), area, h("p", { class: "hint", id: `${name}-hint` }, hint));
    });
    document.getElementById("sampling")?.append(...rows);
    document.getElementById("forms")?.append(...texts);
    this.#dialog.addEventListener("input", () => {
      rows.forEach((row, index) => showHint(row, SAMPLING[index].hint));
      texts.forEach((text, index) => {
        const area = /** @type {HTMLTextAreaElement} */ (text.querySelector("textarea"));
        const wrong = formValue(FORMS[index], area.value) === undefined;
        area.setCustomValidity(wrong ? "This is not such JSON." : "");
        showHint(text, FORMS[index].hint);
      });
      const settings = this.#read();
      if (settings) changed(settings);
    });
    document.getElementById("reset")?.addEventListener("click", () => {
      this.#fill({ ...defaultSettings(), system: this.#system.value });
      this.#dialog.dispatchEvent(new Event("input"));
    });
    closeFromOutside(this.#dialog);
  }

  /** @param {Settings} settings */
  open(settings) {
    this.#fill(settings);
    this.#dialog.showModal();
  }

  /** @param {Settings} settings */
  #fill(settings) {
    this.#system.value = settings.system;
    this.#probabilities.checked = settings.probabilities === 1;
    for (const [name, field] of [...this.#fields, ...this.#forms]) field.value = String(settings[name] ?? "");
  }

  /** The settings, or null while one is invalid. @returns {Settings | null} */
  #read() {
    const settings = { ...defaultSettings(), system: this.#system.value };
    settings.probabilities = this.#probabilities.checked ? 1 : null;
    for (const [name, area] of this.#forms) {
      if (!area.validity.valid) return null;
      settings[name] = area.value;
    }
    for (const [name, field] of this.#fields) {
      if (!field.validity.valid) return null;
      settings[name] = field.value === "" ? null : field.valueAsNumber;
    }
    return settings;
  }
}

/**
 * Below a field: its hint, or what is wrong with it.
 * @param {HTMLElement} row
 * @param {string} hint
 */
function showHint(row, hint) {
  const field = /** @type {HTMLInputElement} */ (row.querySelector("input, textarea"));
  const below = /** @type {HTMLElement} */ (row.querySelector("p"));
  below.textContent = field.validity.valid ? hint : `${field.validationMessage} It has no effect yet.`;
  field.setAttribute("aria-invalid", String(!field.validity.valid));
}

/**
 * Ask something.
 * @param {{title: string, text?: string, confirm: string, answer?: string, secret?: boolean}} question with `answer`,
 *   a line of text is asked for, and this is what stands there first
 * @returns {Promise<string | null>} the line, or "" without one; null when cancelled
 */
export function ask({ title, text = "", confirm, answer, secret = false }) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("question"));
  const field = /** @type {HTMLInputElement} */ (document.getElementById("question-answer"));
  const button = /** @type {HTMLButtonElement} */ (document.getElementById("question-confirm"));
  const cancel = /** @type {HTMLButtonElement} */ (document.getElementById("question-cancel"));
  const form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
  /** @type {HTMLElement} */ (document.getElementById("question-title")).textContent = title;
  /** @type {HTMLElement} */ (document.getElementById("question-text")).textContent = text;
  button.textContent = confirm;
  field.hidden = answer === undefined;
  field.required = answer !== undefined;
  field.type = secret ? "password" : "text";
  field.value = answer ?? "";
  dialog.showModal();
  (answer === undefined ? cancel : field).focus();
  field.select();
  return new Promise((resolve) => {
    cancel.onclick = () => dialog.close("");
    form.onsubmit = () => {
      dialog.returnValue = "confirmed";
    };
    button.value = "confirmed";
    dialog.onclose = () => {
      resolve(dialog.returnValue === "confirmed" ? field.value.trim() : null);
      dialog.returnValue = field.value = "";
    };
  });
}

/** A click beside a dialog closes it. @param {HTMLDialogElement} dialog */
export function closeFromOutside(dialog) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}
