// A wire to the server under test that can be cut.

import { connect, createServer } from 'node:net';
import { BASE } from './browser.js';

/** `base` leads to the server; `cut()` breaks every connection that stands. */
export function wire() {
  const { hostname, port } = new URL(BASE);
  const sockets = new Set();
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      socket.on('error', () => null);
    }
    near.pipe(far).pipe(near);
  });
  const cut = () => {
    for (const socket of sockets) socket.destroy();
    return sockets.size;
  };
  const close = () => {
    cut();
    server.close();
  };
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({ base: `http://127.0.0.1:${server.address().port}`, cut, close }));
  });
}
