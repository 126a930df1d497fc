// JSON without loss: numbers that a browser would round keep their digits, and the very bytes of a member can be had.

/** A number that JavaScript cannot hold: its digits as they came. */
export class Digits {
  constructor(source) {
    this.source = source;
  }

  toString() {
    return this.source;
  }
}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const BLANK = /[ \t\n\r]*/y;
const DEPTH_MAX = 256;

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (!found) throw this.wrong();
    this.at = pattern.lastIndex;
    return found[0];
  }

  wrong() {
    return new SyntaxError(`no JSON at character ${this.at + 1}`);
  }

  peek() {
    this.match(BLANK);
    return this.text[this.at];
  }

  take(character) {
    if (this.peek() !== character) throw this.wrong();
    this.at += 1;
  }

  value(depth = 0) {
    if (depth > DEPTH_MAX) throw this.wrong();
    switch (this.peek()) {
      case '{':
        return this.object(depth);
      case '[':
        return this.array(depth);
      case '"':
        return this.string();
      case 't':
        return this.word('true', true);
      case 'f':
        return this.word('false', false);
      case 'n':
        return this.word('null', null);
      default:
        return this.number();
    }
  }

  word(text, value) {
    if (!this.text.startsWith(text, this.at)) throw this.wrong();
    this.at += text.length;
    return value;
  }

  number() {
    const source = this.match(NUMBER);
    const value = Number(source);
    return String(value) === source ? value : new Digits(source);
  }

  string() {
    const start = this.at;
    this.at += 1;
    this.match(PLAIN);
    if (this.text[this.at] === '"') {
      this.at += 1;
      return this.text.slice(start + 1, this.at - 1);
    }
    while (this.text[this.at] === '\\') {
      this.at += 2;
      this.match(PLAIN);
    }
    if (this.text[this.at] !== '"') throw this.wrong();
    this.at += 1;
    return JSON.parse(this.text.slice(start, this.at));
  }

  array(depth) {
    const items = [];
    this.take('[');
    if (this.peek() === ']') {
      this.at += 1;
      return items;
    }
    for (;;) {
      items.push(this.value(depth + 1));
      if (this.peek() === ']') break;
      this.take(',');
    }
    this.at += 1;
    return items;
  }

  object(depth, note) {
    // Without a prototype, so that no name in it means anything but itself.
    const members = Object.create(null);
    this.take('{');
    if (this.peek() === '}') {
      this.at += 1;
      return members;
    }
    for (;;) {
      if (this.peek() !== '"') throw this.wrong();
      const name = this.string();
      this.take(':');
      this.match(BLANK);
      const start = this.at;
      members[name] = this.value(depth + 1);
      if (note) note(name, this.text.slice(start, this.at));
      if (this.peek() === '}') break;
      this.take(',');
    }
    this.at += 1;
    return members;
  }
}

/** Reads one document. */
export function parse(text) {
  const reader = new Reader(text);
  const value = reader.value();
  if (reader.peek() !== undefined) throw reader.wrong();
  return value;
}

/** The members of the object that begins at this place, each as its very text. */
export function rawMembers(text, at = 0) {
  const reader = new Reader(text);
  reader.at = at;
  const found = new Map();
  reader.peek();
  reader.object(0, (name, raw) => found.set(name, raw));
  return found;
}

export const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value) && !(value instanceof Digits);

/** Writes a document; with an indent for people. */
export function stringify(value, indent = 0, depth = 0) {
  const line = (level) => (indent ? `\n${' '.repeat(indent * level)}` : '');
  const colon = indent ? ': ' : ':';
  if (value instanceof Digits) return value.source;
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]';
    return `[${value.map((item) => line(depth + 1) + stringify(item, indent, depth + 1)).join(',')}${line(depth)}]`;
  }
  if (isObject(value)) {
    const names = Object.keys(value);
    if (names.length === 0) return '{}';
    const members = names.map((name) => `${line(depth + 1)}${JSON.stringify(name)}${colon}${stringify(value[name], indent, depth + 1)}`);
    return `{${members.join(',')}${line(depth)}}`;
  }
  return JSON.stringify(value) ?? 'null';
}

/** Whether two documents say the same. */
export const isEqual = (left, right) => left === right || stringify(left) === stringify(right);
