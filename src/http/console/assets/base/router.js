// Where the reader is: the part of the address behind `#` names page and query, so that every view is a link.

const PARTS = /^#\/?([^?]*)(?:\?(.*))?$/;

/** The address of a page. Empty values are left out. */
export function link(path, query) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== '') search.set(name, String(value));
  }
  const text = search.toString();
  return `#/${path.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

/** What the address names now. */
export function here() {
  const [, path = '', query = ''] = PARTS.exec(location.hash) ?? [];
  const segments = path.split('/').filter(Boolean).map(decoded);
  return { segments, query: new URLSearchParams(query) };
}

function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

export function go(path, query) {
  const target = link(path, query);
  if (location.hash === target) dispatchEvent(new HashChangeEvent('hashchange'));
  else location.hash = target;
}

/** Browsers allow so many notes in a while and no more; a hand on a slider makes one each frame. */
const NOTE_MS = 150;
let noting = null;

/** Notes a changed query in the address without leaving the page, once it rests. */
export function note(path, query) {
  clearTimeout(noting);
  const from = location.hash;
  noting = setTimeout(() => {
    if (location.hash === from) history.replaceState(null, '', link(path, query));
  }, NOTE_MS);
}
