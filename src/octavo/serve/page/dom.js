/**
 * Building DOM nodes. Every node of the page that is not in index.html is made here or by the Markdown renderer, and
 * text always becomes a text node: no markup is ever parsed, so nothing that a model or a file says can become code.
 */

/**
 * An element with properties and children.
 * @param {string} tag
 * @param {Record<string, unknown>} [properties] `class`, `aria-*`, `data-*`, `role`, `for` are attributes; functions
 *   named `on…` are listeners; the rest are DOM properties
 * @param {...(Node | string | null)} children null is left out
 * @returns {any}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (/^(class|role|for|aria-.+|data-.+)$/.test(name)) element.setAttribute(name, String(value));
    else Object.assign(element, { [name]: value });
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const PATHS = {
  copy: "M8 8h11v12H8z M16 8V4H5v12h3",
  done: "M4.5 12.5l5 5 10-11",
  again: "M19.5 12a7.5 7.5 0 1 1-2.3-5.4 M19.5 3.5v4.2h-4.2",
  edit: "M4 20l1-4.5L16 4.5l3.5 3.5L8.5 19z M13.5 7l3.5 3.5",
  remove: "M5 7h14 M9.5 7V4.5h5V7 M7 7l.8 12.5h8.4L17 7",
  up: "M7 11v8.5H4V11z M7 11l4-7.5c1.6 0 2.4 1 2.2 2.4L12.6 10H19c1 0 1.6.8 1.4 1.8l-1.3 6c-.2 1-.9 1.7-2 1.7H7",
  down: "M7 13V4.5H4V13z M7 13l4 7.5c1.6 0 2.4-1 2.2-2.4L12.6 14H19c1 0 1.6-.8 1.4-1.8l-1.3-6c-.2-1-.9-1.7-2-1.7H7",
  tokens: "M4 18.5h3.5V12H4z M10.2 18.5h3.5v-13h-3.5z M16.5 18.5H20V9h-3.5z",
  close: "M6 6l12 12 M18 6L6 18",
  document: "M6 3.5h8l4.5 4.5v12.5H6z M14 3.5V8h4.5 M9 12.5h6.5 M9 16h6.5",
  previous: "M14.5 5.5L8 12l6.5 6.5",
  next: "M9.5 5.5L16 12l-6.5 6.5",
};

/**
 * A decorative line icon.
 * @param {keyof typeof PATHS} name
 */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button that shows an icon and has a name.
 * @param {keyof typeof PATHS} name
 * @param {string} label
 * @param {(event: MouseEvent) => void} onclick
 * @returns {HTMLButtonElement}
 */
export function iconButton(name, label, onclick) {
  return h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick }, icon(name));
}

/**
 * A button that copies text and says so.
 * @param {string} label
 * @param {(button: HTMLElement) => string} text
 * @returns {HTMLButtonElement}
 */
export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    const copied = await copy(text(button));
    button.replaceChildren(icon(copied ? "done" : "copy"));
    button.setAttribute("aria-label", copied ? "Copied" : "Copying failed");
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.setAttribute("aria-label", label);
    }, 1600);
  });
  return button;
}

/** @param {string} text */
async function copy(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  // A page that is not served from this machine or over https has no clipboard object.
  const area = h("textarea", { value: text, class: "unseen", readOnly: true });
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}

/**
 * Make `current` equal to `wanted` with the fewest changes, so that scroll positions, selections and focus survive.
 * @param {Node} current
 * @param {Node} wanted consumed
 * @returns {Node} the node that stands in the document
 */
export function morph(current, wanted) {
  if (current.nodeName !== wanted.nodeName) {
    /** @type {ChildNode} */ (current).replaceWith(wanted);
    return wanted;
  }
  if (current instanceof Text && wanted instanceof Text) {
    if (wanted.data.startsWith(current.data)) current.appendData(wanted.data.slice(current.data.length));
    else current.data = wanted.data;
  } else if (current instanceof Element && wanted instanceof Element && !(current instanceof HTMLButtonElement)) {
    for (const { name } of [...current.attributes]) if (!wanted.hasAttribute(name)) current.removeAttribute(name);
    for (const { name, value } of wanted.attributes) {
      if (current.getAttribute(name) !== value) current.setAttribute(name, value);
    }
    const kept = [...current.childNodes];
    const children = [...wanted.childNodes]; // some of which move out of it
    children.forEach((child, index) => {
      if (index < kept.length) morph(kept[index], child);
      else current.append(child);
    });
    kept.slice(children.length).forEach((child) => child.remove());
  }
  return current;
}
