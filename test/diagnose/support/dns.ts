/** A DNS server on loopback that answers with addresses, an error, late, or not at all. */
import dgram from 'node:dgram';
import { once } from 'node:events';

export interface DnsWish {
  readonly v4?: readonly string[];
  readonly v6?: readonly ('::1' | '2001:db8::1')[];
  /** 0 no error, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED. */
  readonly rcode?: 0 | 2 | 3 | 5;
  readonly silent?: boolean;
  readonly delayMs?: number;
}

export interface RunningDns {
  /** `127.0.0.1:port`. */
  readonly address: string;
  close(): Promise<void>;
}

const TYPE_A = 1;
const TYPE_AAAA = 28;

export async function startDns(wish: DnsWish): Promise<RunningDns> {
  const socket = dgram.createSocket('udp4');
  const timers = new Set<NodeJS.Timeout>();
  socket.on('message', (query, { port, address }) => {
    if (wish.silent === true) return;
    const reply = answerTo(query, wish);
    const timer = setTimeout(() => {
      timers.delete(timer);
      socket.send(reply, port, address);
    }, wish.delayMs ?? 0);
    timers.add(timer);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return {
    address: `127.0.0.1:${socket.address().port}`,
    async close() {
      for (const timer of timers) clearTimeout(timer);
      socket.close();
      await once(socket, 'close');
    },
  };
}

function answerTo(query: Buffer, { v4 = [], v6 = [], rcode = 0 }: DnsWish): Buffer {
  let end = 12;
  for (let length = query[end] ?? 0; length > 0; length = query[end] ?? 0) end += length + 1;
  const question = query.subarray(12, end + 5);
  const type = query.readUInt16BE(end + 1);
  const data =
    rcode !== 0
      ? []
      : type === TYPE_A
        ? v4.map((address) => Buffer.from(address.split('.').map(Number)))
        : type === TYPE_AAAA
          ? v6.map((address) =>
              Buffer.from(`${address === '::1' ? '00000000' : '20010db8'}${'0'.repeat(23)}1`, 'hex'),
            )
          : [];
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  head.writeUInt16BE(0x8180 | rcode, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(data.length, 6);
  const records = data.map((bytes) => {
    const record = Buffer.alloc(12);
    record.writeUInt16BE(0xc00c, 0); // the name of the question
    record.writeUInt16BE(type, 2);
    record.writeUInt16BE(1, 4);
    record.writeUInt32BE(60, 6);
    record.writeUInt16BE(bytes.length, 10);
    return Buffer.concat([record, bytes]);
  });
  return Buffer.concat([head, question, ...records]);
}
