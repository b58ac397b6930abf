/**
 * Markdown inside a paragraph: emphasis, code, links, line breaks. CommonMark 0.31's delimiter algorithm (section 6.2),
 * in time linear in the text.
 *
 * Unlike CommonMark: a single newline is a line break, HTML is plain text, images become links (none is ever loaded),
 * bare addresses are links, `~~` strikes out. Links go to http, https or mailto; anything else stays text.
 */

import { h } from "./dom.js";

/** @typedef {{mark: string, length: number, opens: boolean, closes: boolean}} Run emphasis marks in a row */
/** @typedef {{node: Node, depth?: number, run?: Run}} Piece */

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
const MAX_ADDRESS = 4000;
const MAX_DEPTH = 16; // of emphasis in emphasis; deeper marks are dropped, so that no text can exhaust the stack
const MAX_OPENERS = 64; // marks that wait for their partner; the oldest of more stays text

/**
 * @param {string} text
 * @param {boolean} [open] the text is still being written: what looks unfinished is shown as it will most likely be
 * @returns {DocumentFragment}
 */
export function renderInline(text, open = false) {
  const fragment = document.createDocumentFragment();
  fragment.append(...new Inline(open ? finishTail(text) : text, open).render());
  return fragment;
}

/** Hide the marks at the end of unfinished text whose meaning the next characters will tell. @param {string} text */
function finishTail(text) {
  return text.replace(/!?\[([^[\]\n]*)\]\([^()\s]*$/, "$1").replace(/(?<![\\`*_~])[*_`~]{1,3}$/, "");
}

class Inline {
  #text;
  #open;
  #at = 0;
  #plain = "";
  #pieces = /** @type {Piece[]} */ ([]);
  #brackets = /** @type {{piece: number, image: boolean}[]} */ ([]);
  #lastTicks = /** @type {Map<number, number> | null} */ (null); // where the last run of backticks of a length starts

  /**
   * @param {string} text
   * @param {boolean} open
   */
  constructor(text, open) {
    this.#text = text;
    this.#open = open;
  }

  /** @returns {Node[]} */
  render() {
    while (this.#at < this.#text.length) if (!this.#special()) this.#plain += this.#text[this.#at++];
    this.#flush();
    return emphasise(this.#pieces, this.#open);
  }

  /** Consume one construct at the current place, if there is one. */
  #special() {
    const character = this.#text[this.#at];
    switch (character) {
      case "\\":
        return this.#escape();
      case "`":
        return this.#code();
      case "*":
      case "_":
      case "~":
        return this.#run(character);
      case "!":
        return this.#text[this.#at + 1] === "[" && this.#bracket(true);
      case "[":
        return this.#bracket(false);
      case "]":
        return this.#link();
      case "<":
        return this.#match(/<((?:https?:\/\/|mailto:)[^\s<>]*)>/y, (found) => this.#address(found[1], found[1]));
      case "h":
        return !/\w/.test(this.#text[this.#at - 1] ?? "") && this.#bareAddress();
      case "&":
        return this.#entity();
      case "\n":
        return this.#lineBreak();
      default:
        return false;
    }
  }

  #flush() {
    if (this.#plain) this.#pieces.push({ node: new Text(this.#plain) });
    this.#plain = "";
  }

  /** @param {Node} node */
  #add(node) {
    this.#flush();
    this.#pieces.push({ node });
  }

  /**
   * @param {RegExp} pattern sticky
   * @param {(found: RegExpExecArray) => boolean} use
   */
  #match(pattern, use) {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (!found || !use(found)) return false;
    this.#at += found[0].length;
    return true;
  }

  #escape() {
    const next = this.#text[this.#at + 1] ?? "";
    if (next === "\n") {
      this.#at++;
      return this.#lineBreak();
    }
    if (!/[!-/:-@[-`{-~]/.test(next)) return false;
    this.#plain += next;
    this.#at += 2;
    return true;
  }

  #lineBreak() {
    this.#plain = this.#plain.replace(/ +$/, "");
    this.#add(h("br"));
    this.#at++;
    while (this.#text[this.#at] === " ") this.#at++;
    return true;
  }

  #entity() {
    return this.#match(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos|nbsp));/y, (found) => {
      const code = found[1] ? Number(found[1]) : parseInt(found[2], 16);
      const valid = code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000);
      if (found[3]) this.#plain += ENTITIES[/** @type {keyof typeof ENTITIES} */ (found[3])];
      else this.#plain += valid ? String.fromCodePoint(code) : "\ufffd";
      return true;
    });
  }

  #code() {
    const length = runLength(this.#text, this.#at);
    const start = this.#at + length;
    this.#lastTicks ??= new Map(Array.from(this.#text.matchAll(/`+/g), (run) => [run[0].length, run.index]));
    const closes = (this.#lastTicks.get(length) ?? 0) >= start;
    let end = closes ? closingRun(this.#text, start, length) : -1;
    if (end < 0) {
      if (!this.#open || length > 2) {
        this.#plain += "`".repeat(length);
        this.#at = start;
        return true;
      }
      end = this.#text.length;
    }
    const code = this.#text.slice(start, end).replace(/\n/g, " ");
    const padded = code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "";
    this.#add(h("code", {}, padded ? code.slice(1, -1) : code));
    this.#at = Math.min(end + length, this.#text.length);
    return true;
  }

  /** A run of emphasis marks. @param {string} mark */
  #run(mark) {
    const length = runLength(this.#text, this.#at);
    const before = this.#text.slice(Math.max(0, this.#at - 2), this.#at).match(/.$/su)?.[0] ?? " ";
    const after = String.fromCodePoint(this.#text.codePointAt(this.#at + length) ?? 32);
    const left = !/\s/.test(after) && (!isPunctuation(after) || /\s/.test(before) || isPunctuation(before));
    const right = !/\s/.test(before) && (!isPunctuation(before) || /\s/.test(after) || isPunctuation(after));
    const word = mark === "_"; // no emphasis inside snake_case_names
    const run = {
      mark,
      length,
      opens: left && (!word || !right || isPunctuation(before)),
      closes: right && (!word || !left || isPunctuation(after)),
    };
    this.#flush();
    this.#pieces.push({ node: new Text(mark.repeat(length)), run: mark === "~" && length !== 2 ? undefined : run });
    this.#at += length;
    return true;
  }

  /** @param {boolean} image */
  #bracket(image) {
    this.#flush();
    this.#brackets.push({ piece: this.#pieces.length, image });
    this.#pieces.push({ node: new Text(image ? "![" : "[") });
    this.#at += image ? 2 : 1;
    return true;
  }

  /** A closing bracket: with an address behind it, what stands since the opening one becomes a link. */
  #link() {
    const opening = this.#brackets.pop();
    if (!opening) return false;
    const target = linkTarget(this.#text, this.#at + 1);
    const href = target && safeAddress(target.address);
    if (!target || !href) return false;
    this.#flush();
    const label = emphasise(this.#pieces.splice(opening.piece).slice(1), this.#open);
    if (opening.image) label.unshift(new Text(label.length > 0 ? "Image: " : "Image"));
    else this.#brackets = []; // links do not nest
    this.#add(anchor(href, label.length > 0 ? label : [new Text(target.address)]));
    this.#at = target.end;
    return true;
  }

  #bareAddress() {
    return this.#match(/https?:\/\/[^\s<>"`[\]]+/y, (found) => {
      let address = found[0].slice(0, MAX_ADDRESS);
      address = address.replace(/[.,:;!?'*_~]+$/, "");
      while (address.endsWith(")") && count(address, ")") > count(address, "(")) address = address.slice(0, -1);
      found[0] = address;
      return this.#address(address, address);
    });
  }

  /**
   * @param {string} address
   * @param {string} label
   */
  #address(address, label) {
    const href = safeAddress(address);
    if (href) this.#add(anchor(href, [new Text(label)]));
    return href !== null;
  }
}

/**
 * Match the runs of marks with each other and nest what stands between them.
 * @param {Piece[]} pieces
 * @param {boolean} open unmatched opening runs reach to the end
 * @returns {Node[]}
 */
function emphasise(pieces, open) {
  const result = /** @type {Piece[]} */ ([]);
  const openers = /** @type {number[]} */ ([]); // places in `result`, innermost last
  const bottom = new Map(); // for each kind of closer, how many openers are known not to fit
  for (const piece of pieces) {
    const { run } = piece;
    while (run?.closes && run.length > 0) {
      const kind = `${run.mark}${run.opens}${run.length % 3}`;
      const found = findOpener(result, openers, run, bottom.get(kind) ?? 0);
      if (found < 0) {
        bottom.set(kind, openers.length);
        break;
      }
      wrap(result, openers, found, run);
      for (const [key, known] of bottom) bottom.set(key, Math.min(known, openers.length));
    }
    if (run) piece.node = new Text(run.mark.repeat(run.length));
    if (run && run.length === 0) continue;
    if (run?.opens) openers.push(result.length);
    if (openers.length > MAX_OPENERS) {
      openers.shift();
      for (const [key, known] of bottom) bottom.set(key, Math.max(0, known - 1));
    }
    result.push(piece);
  }
  while (open && openers.length > 0) {
    const run = result[openers[openers.length - 1]].run;
    wrap(result, openers, openers.length - 1, /** @type {Run} */ ({ ...run }));
  }
  return result.map(({ node }) => node);
}

/**
 * @param {Piece[]} result
 * @param {number[]} openers
 * @param {Run} closer
 * @param {number} bottom
 */
function findOpener(result, openers, closer, bottom) {
  for (let index = openers.length - 1; index >= bottom; index--) {
    const opener = /** @type {Run} */ (result[openers[index]].run);
    if (opener.mark !== closer.mark) continue;
    const bothWays = opener.closes || closer.opens;
    const multiple = (opener.length + closer.length) % 3 === 0 && (opener.length % 3 !== 0 || closer.length % 3 !== 0);
    if (!bothWays || !multiple) return index;
  }
  return -1;
}

/**
 * Wrap what follows an opener, and shorten opener and closer by what the element uses.
 * @param {Piece[]} result
 * @param {number[]} openers
 * @param {number} index
 * @param {Run} closer
 */
function wrap(result, openers, index, closer) {
  const place = openers[index];
  const opener = /** @type {Run} */ (result[place].run);
  const used = opener.length >= 2 && closer.length >= 2 ? 2 : 1;
  const tag = opener.mark === "~" ? "del" : used === 2 ? "strong" : "em";
  const inner = result.splice(place + 1);
  const depth = 1 + inner.reduce((deepest, piece) => Math.max(deepest, piece.depth ?? 0), 0);
  openers.length = index;
  opener.length -= used;
  closer.length -= used;
  if (opener.length > 0) {
    result[place].node = new Text(opener.mark.repeat(opener.length));
    openers.push(place);
  } else {
    result.pop();
  }
  if (depth > MAX_DEPTH) for (const piece of inner) result.push({ node: piece.node, depth: piece.depth });
  else result.push({ node: h(tag, {}, ...inner.map(({ node }) => node)), depth });
}

/**
 * The address of a link at `(`.
 * @param {string} text
 * @param {number} at
 */
function linkTarget(text, at) {
  const rest = text.slice(at, at + MAX_ADDRESS);
  const found =
    /^\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*\))*))(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/s.exec(rest);
  if (!found) return null;
  const address = (found[1] ?? found[2]).replace(/\\([!-/:-@[-`{-~])/g, "$1").replace(/&amp;/g, "&");
  return { address, end: at + found[0].length };
}

/**
 * The address if a link may go there, else null.
 * @param {string} address
 */
function safeAddress(address) {
  if (!/^(https?:\/\/|mailto:)/i.test(address)) return null;
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/**
 * @param {string} href
 * @param {Node[]} label
 */
function anchor(href, label) {
  return h("a", { href, rel: "noopener noreferrer", target: "_blank" }, ...label);
}

/**
 * @param {string} text
 * @param {number} start
 */
function runLength(text, start) {
  let end = start;
  while (text[end] === text[start]) end++;
  return end - start;
}

/**
 * Where the next run of exactly `length` backticks starts, or -1.
 * @param {string} text
 * @param {number} from
 * @param {number} length
 */
function closingRun(text, from, length) {
  for (let at = text.indexOf("`", from); at >= 0; at = text.indexOf("`", at)) {
    const found = runLength(text, at);
    if (found === length) return at;
    at += found;
  }
  return -1;
}

/** @param {string} character */
function isPunctuation(character) {
  return /[\p{P}\p{S}]/u.test(character);
}

/**
 * @param {string} text
 * @param {string} character
 */
function count(text, character) {
  return text.split(character).length - 1;
}
