/**
 * Loaded into a possync process (NODE_OPTIONS=--import) it plants one fault, PLANT, for the controls of the fuzzers:
 *
 *   fill-in     what is missing or wrong in a message is made up, so that routes and sockets accept nonsense
 *   parser      looking at bytes that are no UTF-8 throws what nobody expects
 *   hoard       four megabytes of memory are kept for every message
 *   close-code  sockets are closed with a code that says nothing
 *   query       reading the query of an address throws what nobody expects
 */
import buffer from 'node:buffer';
import { syncBuiltinESMExports } from 'node:module';
import { WebSocket } from 'ws';

const plants = {
  'fill-in'() {
    const parse = JSON.parse;
    JSON.parse = (text, ...rest) => {
      const value = parse(text, ...rest);
      if (typeof value !== 'object' || value === null) return value;
      if ('run' in value) value.run = { id: '0190c000-0000-7000-8000-000000000001', done: 0, total: 3 };
      if (value.type === 'ping') value.n = 1;
      return value;
    };
  },
  parser() {
    const { isUtf8 } = buffer;
    buffer.isUtf8 = (bytes) => {
      if (!isUtf8(bytes)) throw new TypeError('planted: cannot read this');
      return true;
    };
    syncBuiltinESMExports();
  },
  hoard() {
    const kept = [];
    const { isUtf8 } = buffer;
    buffer.isUtf8 = (bytes) => {
      kept.push(Buffer.alloc(4 * 1024 * 1024, 1));
      return isUtf8(bytes);
    };
    syncBuiltinESMExports();
  },
  'close-code'() {
    const { close } = WebSocket.prototype;
    WebSocket.prototype.close = function (code, reason) {
      close.call(this, code === undefined ? code : 1011, reason);
    };
  },
  query() {
    URLSearchParams.prototype.has = () => {
      throw new TypeError('planted: cannot read this');
    };
  },
};

plants[process.env.PLANT]?.();
