// Elements. Whatever comes from outside becomes a text node here: there is no other way into the page.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === 'css') {
      for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    } else if (name === 'value') {
      element.value = value;
    } else {
      element.setAttribute(name, value === true ? '' : String(value));
    }
  }
  append(element, children);
  return element;
}

/** Adds nodes and texts; lists are flattened, nothing is left out silently but null, undefined and false. */
export function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child instanceof Node) element.append(child);
    else if (child !== null && child !== undefined && child !== false) element.append(String(child));
  }
}

/** An HTML element. Attributes: `on` holds listeners, `css` custom properties; false and null leave one out. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** An SVG element. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Puts these in the place of everything an element holds. */
export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

let count = 0;

/** A fresh id, to join a label and its control. */
export const freshId = () => `x${(count += 1)}`;

const SHAPES = {
  overview: 'M3 11.5 12 4l9 7.5M6 9.5V20h12V9.5',
  events: 'M4 6h16M4 12h16M4 18h10',
  aggregates: 'M12 3 4 7.5v9L12 21l8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9',
  queries: 'M4 5h16v10H9l-4 4v-4H4zM8 9h8M8 12h5',
  projections: 'M4 19V9M10 19V5M16 19v-7M21 19H3',
  sagas: 'M4 7h11a4 4 0 0 1 0 8H7M10 12l-3 3 3 3',
  causation: 'M4 6a2 2 0 1 0 4 0a2 2 0 1 0-4 0M4 18a2 2 0 1 0 4 0a2 2 0 1 0-4 0M16 12a2 2 0 1 0 4 0a2 2 0 1 0-4 0M7.8 7l8.4 4M7.8 17l8.4-4',
  branches: 'M7 4v16M7 10c0 4 10 2 10 7v3M7 4h.01M17 20h.01',
  integrity: 'M12 3 5 6v5c0 4.5 3 8 7 10 4-2 7-5.500 7-10V6zM9 12l2 2 4-4',
  commands: 'M5 7l5 5-5 5M12 18h7',
  metrics: 'M3 16l5-6 4 4 5-8 4 5',
  settings: 'M4 8h9M17 8h3M15 6v4M4 16h3M11 16h9M9 14v4',
  search: 'M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM20 20l-4-4',
  menu: 'M4 7h16M4 12h16M4 17h16',
  play: 'M8 5v14l11-7z',
  pause: 'M9 5v14M15 5v14',
  first: 'M18 6l-8 6 8 6M6 6v12',
  previous: 'M15 6l-6 6 6 6',
  next: 'M9 6l6 6-6 6',
  last: 'M6 6l8 6-8 6M18 6v12',
  copy: 'M9 9h10v11H9zM5 15V4h10',
  theme: 'M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16',
  close: 'M6 6l12 12M18 6 6 18',
};

/** A small drawing; it says nothing to those who do not see it. */
export const icon = (name) =>
  s('svg', { viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true', focusable: 'false' }, s('path', { d: SHAPES[name] }));
