// What this browser remembers: theme and language for good, the token only until the tab is closed.

const listeners = new Set();
const read = (storage, name) => {
  try {
    return storage.getItem(name);
  } catch {
    return null;
  }
};
const write = (storage, name, value) => {
  try {
    if (value) storage.setItem(name, value);
    else storage.removeItem(name);
  } catch {
    // A browser that keeps nothing still works until the next load.
  }
};

let token = read(sessionStorage, 'console.token') ?? '';
let theme = read(localStorage, 'console.theme') ?? 'system';
let language = read(localStorage, 'console.language') ?? (navigator.language?.startsWith('ja') ? 'ja' : 'en');

export const session = {
  get token() {
    return token;
  },
  set token(value) {
    token = value.trim();
    write(sessionStorage, 'console.token', token);
    tell('token');
  },
  get theme() {
    return theme;
  },
  set theme(value) {
    theme = value;
    write(localStorage, 'console.theme', value === 'system' ? '' : value);
    applyTheme();
    tell('theme');
  },
  get language() {
    return language;
  },
  set language(value) {
    language = value;
    write(localStorage, 'console.language', value);
    tell('language');
  },
};

function tell(what) {
  for (const listener of listeners) listener(what);
}

export function onChange(listener, signal) {
  listeners.add(listener);
  signal?.addEventListener('abort', () => listeners.delete(listener));
}

export function applyTheme() {
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/** Whether the page is dark now. */
export const isDark = () => (theme === 'system' ? matchMedia('(prefers-color-scheme: dark)').matches : theme === 'dark');
