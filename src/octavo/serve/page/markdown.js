/**
 * Markdown to DOM nodes: headings, paragraphs, lists, quotes, fenced code, tables, rules. What stands inside a
 * paragraph is in inline.js. No HTML is ever parsed.
 *
 * Built for text that is still arriving: only the last block is parsed again, and changes are merged into the nodes
 * that stand. Hence what could turn an earlier block into another is left out of CommonMark: headings underlined
 * with dashes, reference links, code by indentation, loose lists. A heading becomes h3 to h6, below the page's own.
 */

import { copyButton, h, morph } from "./dom.js";
import { renderInline } from "./inline.js";

/**
 * @typedef {{start: number} & (
 *   {kind: "paragraph", text: string} |
 *   {kind: "heading", level: number, text: string} |
 *   {kind: "rule"} |
 *   {kind: "code", language: string, text: string} |
 *   {kind: "quote", blocks: Block[]} |
 *   {kind: "list", first: number | null, items: Block[][]} |
 *   {kind: "table", align: string[], rows: string[][]}
 * )} Block `start` is the number of its first line
 */

const FENCE = /^( *)(`{3,}(?=[^`]*$)|~{3,})[ \t]*(.*)$/;
const HEADING = /^ *(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ *(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ *> ?/;
const MARKER = /^( *)([-*+]|\d{1,9}[.)])( +|$)(.*)$/;
const MAX_DEPTH = 12; // of quotes and lists in each other; deeper ones stay text

/** A place in the document that shows a growing text. */
export class MarkdownView {
  #text = "";
  #settled = 0; // characters, of whole blocks that no further text can change
  #nodes = 0; // children that show the settled characters

  /** @param {HTMLElement} element its children belong to the view */
  constructor(element) {
    this.element = element;
  }

  /**
   * Show a text. The cost is that of what changed when the text only grew.
   * @param {string} text
   * @param {boolean} [open] more is to come
   */
  update(text, open = false) {
    const clean = text.replace(/\r\n?/g, "\n");
    if (!clean.startsWith(this.#text.slice(0, this.#settled))) this.#settled = this.#nodes = 0;
    this.#text = clean;
    const lines = (open ? hideLoneMarks(clean) : clean).slice(this.#settled).split("\n");
    const blocks = parseBlocks(lines);
    blocks.forEach((block, index) => {
      const node = renderBlock(block, open && index === blocks.length - 1);
      const current = this.element.childNodes[this.#nodes + index];
      if (current) morph(current, node);
      else this.element.append(node);
    });
    while (this.element.childNodes.length > this.#nodes + blocks.length) this.element.lastChild?.remove();
    if (blocks.length > 1) {
      const before = lines.slice(0, blocks[blocks.length - 1].start);
      this.#settled += before.reduce((sum, line) => sum + line.length + 1, 0);
      this.#nodes += blocks.length - 1;
    }
  }
}

/** Leave out a last line of marks only, which the next character may make a list or a fence. @param {string} text */
function hideLoneMarks(text) {
  return text.replace(/\n[ \t]*[-*+#>`~]{1,3}[ \t]*$/, "");
}

/**
 * @param {string} text
 * @returns {DocumentFragment}
 */
export function renderMarkdown(text) {
  const blocks = parseBlocks(text.replace(/\r\n?/g, "\n").split("\n"));
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks.map((block) => renderBlock(block, false)));
  return fragment;
}

/**
 * @param {string[]} lines
 * @param {number} [depth]
 * @returns {Block[]}
 */
export function parseBlocks(lines, depth = 0) {
  const blocks = /** @type {Block[]} */ ([]);
  for (let at = 0; at < lines.length; ) {
    if (isBlank(lines[at])) {
      at++;
      continue;
    }
    const { block, end } = parseBlock(lines, at, depth);
    blocks.push(block);
    at = end;
  }
  return blocks;
}

/**
 * @param {string[]} lines
 * @param {number} start a line that is not blank
 * @param {number} depth
 * @returns {{block: Block, end: number}} end: the first line after it
 */
function parseBlock(lines, start, depth) {
  const line = lines[start];
  const fence = FENCE.exec(line);
  if (fence) return parseCode(lines, start, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    const text = (heading[2] ?? "").replace(/(?:^|[ \t]+)#+[ \t]*$/, "").trim();
    return { block: { kind: "heading", start, level: heading[1].length, text }, end: start + 1 };
  }
  if (RULE.test(line)) return { block: { kind: "rule", start }, end: start + 1 };
  if (depth < MAX_DEPTH) {
    if (QUOTE.test(line)) return parseQuote(lines, start, depth);
    const marker = MARKER.exec(line);
    if (marker) return parseList(lines, start, marker, depth);
  }
  return isTable(lines, start) ? parseTable(lines, start) : parseParagraph(lines, start, depth);
}

/**
 * @param {string[]} lines
 * @param {number} start
 * @param {RegExpExecArray} fence
 */
function parseCode(lines, start, fence) {
  const [, indent, marks, info] = fence;
  const closing = new RegExp(`^ {0,${indent.length + 3}}${marks[0]}{${marks.length},}[ \t]*$`);
  let end = start + 1;
  while (end < lines.length && !closing.test(lines[end])) end++;
  const inside = lines.slice(start + 1, end).map((line) => outdent(line, indent.length));
  const language = info.trim().split(/[\s{,:]/)[0];
  // An unclosed fence reaches to the end of the text.
  return { block: /** @type {Block} */ ({ kind: "code", start, language, text: inside.join("\n") }), end: end + 1 };
}

/**
 * @param {string[]} lines
 * @param {number} start
 * @param {number} depth
 */
function parseQuote(lines, start, depth) {
  const inside = [];
  let end = start;
  for (; end < lines.length; end++) {
    const quoted = QUOTE.test(lines[end]);
    const continues = isLazy(inside[inside.length - 1] ?? "", lines, end, depth);
    if (!quoted && !continues) break;
    inside.push(lines[end].replace(QUOTE, ""));
  }
  return { block: /** @type {Block} */ ({ kind: "quote", start, blocks: parseBlocks(inside, depth + 1) }), end };
}

/**
 * @param {string[]} lines
 * @param {number} start
 * @param {RegExpExecArray} first
 * @param {number} depth
 */
function parseList(lines, start, first, depth) {
  const items = [];
  const kind = first[2].slice(-1);
  let end = start;
  for (let marker = /** @type {RegExpExecArray | null} */ (first); marker && marker[2].endsWith(kind); ) {
    const indent = marker[1].length;
    const width = indent + marker[2].length + (marker[3].length > 4 ? 1 : Math.max(1, marker[3].length));
    const inside = [marker[3].length > 4 ? marker[3].slice(1) + marker[4] : marker[4]];
    for (end++; end < lines.length; end++) {
      const line = lines[end];
      const nested = indentation(line) >= width || (indentation(line) >= indent + 2 && MARKER.test(line));
      const continues = !MARKER.test(line) && isLazy(inside[inside.length - 1], lines, end, depth);
      if (!isBlank(line) && !nested && !continues) break;
      inside.push(outdent(line, width));
    }
    items.push(parseBlocks(inside, depth + 1));
    marker = end < lines.length && !RULE.test(lines[end]) ? MARKER.exec(lines[end]) : null;
  }
  const number = /\d/.test(first[2]) ? parseInt(first[2], 10) : null;
  return { block: /** @type {Block} */ ({ kind: "list", start, first: number, items }), end };
}

/**
 * @param {string[]} lines
 * @param {number} start
 */
function parseTable(lines, start) {
  const align = cells(lines[start + 1]).map((cell) => {
    const left = cell.startsWith(":");
    return cell.endsWith(":") ? (left ? "center" : "right") : "left";
  });
  const rows = [cells(lines[start])];
  let end = start + 2;
  for (; end < lines.length && lines[end].includes("|"); end++) rows.push(cells(lines[end]).slice(0, align.length));
  return { block: /** @type {Block} */ ({ kind: "table", start, align, rows }), end };
}

/**
 * @param {string[]} lines
 * @param {number} start
 * @param {number} depth
 */
function parseParagraph(lines, start, depth) {
  let end = start + 1;
  while (end < lines.length && !isBlank(lines[end]) && !starts(lines, end, depth)) end++;
  const text = lines.slice(start, end).map((line) => line.replace(/^[ \t]+/, "")).join("\n");
  return { block: /** @type {Block} */ ({ kind: "paragraph", start, text: text.trimEnd() }), end };
}

/**
 * Whether a line ends the paragraph before it by starting something else.
 * @param {string[]} lines
 * @param {number} at
 * @param {number} depth
 */
function starts(lines, at, depth) {
  const line = lines[at];
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || isTable(lines, at)) return true;
  if (depth >= MAX_DEPTH) return false;
  const marker = MARKER.exec(line);
  // Neither an empty item nor a year at the start of a line makes a list of a sentence.
  const lists = marker !== null && marker[4] !== "" && (!/\d/.test(marker[2]) || parseInt(marker[2], 10) === 1);
  return lists || QUOTE.test(line);
}

/**
 * Whether a line goes on with the paragraph of a quote or a list item without its marks.
 * @param {string} before the last line inside
 * @param {string[]} lines
 * @param {number} at
 * @param {number} depth
 */
function isLazy(before, lines, at, depth) {
  return !isBlank(before) && !starts([before], 0, depth) && !isBlank(lines[at]) && !starts(lines, at, depth);
}

/**
 * @param {string[]} lines
 * @param {number} at
 */
function isTable(lines, at) {
  const below = lines[at + 1] ?? "";
  if (!lines[at].includes("|") || !/^[ \t|:-]+$/.test(below) || !below.includes("-")) return false;
  const marks = cells(below);
  return marks.every((cell) => /^:?-+:?$/.test(cell)) && marks.length === cells(lines[at]).length;
}

/** The cells of a table's row. @param {string} line */
function cells(line) {
  const inside = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inside.split(/(?<!\\)\|/).map((cell) => cell.replace(/\\\|/g, "|").trim());
}

/** @param {string} line */
function isBlank(line) {
  return /^\s*$/.test(line);
}

/** Columns of white space before the text. @param {string} line */
function indentation(line) {
  return /^[ \t]*/.exec(line)?.[0].replace(/\t/g, "    ").length ?? 0;
}

/**
 * The line with at most `width` columns of white space less.
 * @param {string} line
 * @param {number} width
 */
function outdent(line, width) {
  const space = /^[ \t]*/.exec(line)?.[0] ?? "";
  return space.replace(/\t/g, "    ").slice(width) + line.slice(space.length);
}

/**
 * @param {Block} block
 * @param {boolean} open
 * @returns {HTMLElement}
 */
function renderBlock(block, open) {
  switch (block.kind) {
    case "paragraph":
      return h("p", {}, renderInline(block.text, open));
    case "heading":
      return h(`h${Math.min(block.level + 2, 6)}`, {}, renderInline(block.text, open));
    case "rule":
      return h("hr");
    case "code":
      return renderCode(block.language, block.text);
    case "quote":
      return h("blockquote", {}, ...renderBlocks(block.blocks, open));
    case "list":
      return renderList(block.first, block.items, open);
    case "table":
      return renderTable(block.align, block.rows, open);
  }
}

/**
 * @param {Block[]} blocks
 * @param {boolean} open
 */
function renderBlocks(blocks, open) {
  return blocks.map((block, index) => renderBlock(block, open && index === blocks.length - 1));
}

/**
 * @param {string} language
 * @param {string} text
 */
function renderCode(language, text) {
  const copy = copyButton("Copy code", (button) => button.closest("figure")?.querySelector("code")?.textContent ?? "");
  const code = h("pre", { tabIndex: 0, role: "group", "aria-label": `Code ${language}`.trim() }, h("code", {}, text));
  return h("figure", { class: "code" }, h("figcaption", {}, h("span", {}, language || "text"), copy), code);
}

/**
 * @param {number | null} first
 * @param {Block[][]} items
 * @param {boolean} open
 */
function renderList(first, items, open) {
  const rows = items.map((blocks, index) => {
    const [head, ...rest] = renderBlocks(blocks, open && index === items.length - 1);
    const lead = blocks[0]?.kind === "paragraph" ? [...head.childNodes] : head ? [head] : [];
    return h("li", {}, ...lead, ...rest);
  });
  return first === null ? h("ul", {}, ...rows) : h("ol", { start: first }, ...rows);
}

/**
 * @param {string[]} align
 * @param {string[][]} rows
 * @param {boolean} open
 */
function renderTable(align, rows, open) {
  const [head, ...body] = rows.map((row, place) => {
    const last = open && place === rows.length - 1;
    const tag = place === 0 ? "th" : "td";
    return h("tr", {}, ...align.map((side, index) => h(tag, { class: side }, renderInline(row[index] ?? "", last))));
  });
  const table = h("table", {}, h("thead", {}, head), body.length > 0 ? h("tbody", {}, ...body) : null);
  return h("div", { class: "table", tabIndex: 0, role: "group", "aria-label": "Table" }, table);
}
