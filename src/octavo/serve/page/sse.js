/**
 * Server-sent events over `fetch`, as the HTML standard parses them (section 9.2.6).
 *
 * Unusual: `EventSource` cannot send a POST or a key, so the bytes are read by hand. Chunks may end anywhere: inside a
 * character, or between the two halves of a CRLF.
 */

/** @typedef {{event: string, data: string, id: string}} ServerEvent */

export class EventParser {
  #decoder = new TextDecoder(); // keeps half a character; drops a leading byte order mark
  #line = "";
  #afterReturn = false;
  #data = /** @type {string[]} */ ([]);
  #event = "";
  #id = "";

  /**
   * Take the next bytes of the stream.
   * @param {Uint8Array} bytes
   * @returns {ServerEvent[]} the events that these bytes complete
   */
  push(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    const events = /** @type {ServerEvent[]} */ ([]);
    let start = 0;
    for (let index = 0; index < text.length; index++) {
      const character = text[index];
      if (character === "\n" && this.#afterReturn) {
        start = index + 1; // the second half of a CRLF whose line has already ended
      } else if (character === "\n" || character === "\r") {
        this.#endLine(this.#line + text.slice(start, index), events);
        this.#line = "";
        start = index + 1;
      }
      this.#afterReturn = character === "\r";
    }
    this.#line += text.slice(start);
    return events;
  }

  /**
   * @param {string} line
   * @param {ServerEvent[]} events
   */
  #endLine(line, events) {
    if (line === "") {
      if (this.#data.length > 0) {
        events.push({ event: this.#event || "message", data: this.#data.join("\n"), id: this.#id });
      }
      this.#data = [];
      this.#event = "";
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment: the server's ping
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
  }
}

/**
 * The events of a response body. Leaving the loop early cancels the body.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<ServerEvent>}
 */
export async function* readEvents(body) {
  const reader = body.getReader();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(value);
    }
  } finally {
    reader.cancel().catch(() => {}); // already closed or aborted: nothing is left to cancel
  }
}
