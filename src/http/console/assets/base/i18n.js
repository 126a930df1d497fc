// Texts. English stands in the code; other languages are dictionaries keyed by it.

import { japanese } from '../words/ja.js';
import { session } from './session.js';

/** A text in the reader's language, with its `{places}` filled in. */
export function t(text, places) {
  const found = session.language === 'ja' ? (japanese[text] ?? text) : text;
  if (!places) return found;
  return found.replace(/\{(\w+)\}/g, (whole, name) => (name in places ? String(places[name]) : whole));
}
