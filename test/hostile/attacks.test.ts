/** Attacks on HQ that are about size, slowness and number: what each costs is read from the kernel, not from a clock. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { brotliCompressSync, constants } from 'node:zlib';
import { FRESH_MAX } from '../../src/hq/admission.ts';
import { HQ_HEADER, ROUTES } from '../../src/protocol/http.ts';
import { skip } from '../support/skip.ts';
import { until } from '../support/until.ts';
import { Fortress, type Shop } from './support/fortress.ts';
import { helloMessage } from './support/messages.ts';
import { exchange, rawRequest, refusalCode, Wire } from './support/raw.ts';

const squeezed = (bytes: Buffer): Buffer =>
  brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 2 } });

describe('HQ under attacks of size, slowness and number', function () {
  this.timeout(400_000);
  let fortress: Fortress;
  let evil: Shop & { database: { drop(): Promise<void> } };

  before(async () => {
    fortress = await Fortress.open('attacks');
    evil = await fortress.enrol('EVIL-1');
  });
  after(async () => {
    await evil.database.drop();
    await fortress.close();
  });

  const signed = (): readonly [string, string] => ['authorization', `Bearer ${evil.bearer}`];
  const push = (body: Buffer, ...headers: (readonly [string, string])[]): Buffer =>
    rawRequest({ method: 'POST', path: ROUTES.push, headers: [signed(), ...headers], body });

  it('a few hundred bytes that unpack to more than the limit, or to a hundred million values, are refused', async () => {
    const bombs: readonly (readonly [string, Buffer, number])[] = [
      ['300 MB of blanks', squeezed(Buffer.alloc(300 * 1024 * 1024, 0x20)), 413],
      ['70 million empty arrays', squeezed(Buffer.alloc(210_000_000, '[],')), 400],
      ['100 million levels', squeezed(Buffer.alloc(100_000_000, '[')), 400],
    ];
    for (const [what, packed, status] of bombs) {
      const { grownMb, cpuMs } = await fortress.cost(async () => {
        const answer = await exchange(fortress.port, push(packed, ['content-encoding', 'br']));
        assert.equal(answer?.status, status, what);
        assert.match(refusalCode(answer) ?? '', /^PS-(TOO-LARGE|PROTOCOL)$/);
      });
      console.log(`      ${what}, ${packed.length} bytes: ${grownMb.toFixed(0)} MB, ${cpuMs} ms of CPU`);
      // Twice what it unpacks to, for a moment; parsed, the arrays alone would be several gigabytes.
      assert.ok(grownMb < 700, `${what}: ${grownMb} MB`);
      assert.ok(cpuMs < 10_000, `${what}: ${cpuMs} ms`);
    }
  });

  it('huge bodies of one store are taken a few at a time, then it is told to wait', async () => {
    const large = squeezed(
      Buffer.concat([Buffer.from('{"x":"'), Buffer.alloc(20_000_000, 0x61), Buffer.from('"}')]),
    );
    const statuses: number[] = [];
    const began = performance.now();
    await fortress.during(async () => {
      while (statuses.length < 12 || (statuses.length < 60 && !statuses.includes(429))) {
        const answer = await exchange(fortress.port, push(large, ['content-encoding', 'br']));
        statuses.push(answer?.status ?? 0);
        if (answer?.status === 429) assert.ok(Number(answer.headers['retry-after']) >= 1);
      }
    });
    // Five at once and one in ten seconds, however slow the machine is.
    const most = 5 + Math.ceil((performance.now() - began) / 10_000);
    assert.ok(statuses.filter((status) => status === 400).length <= most, statuses.join(' '));
    assert.ok(statuses.includes(429), statuses.join(' '));
  });

  it('slow heads beyond the limit cannot keep a store out: the oldest are cut', async function () {
    const beyond = 300;
    const files = execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim();
    if (files !== 'unlimited' && Number(files) < FRESH_MAX + 1_000)
      skip(this, `a process may open ${files} files here, and HQ lets ${FRESH_MAX} connections be slow`);
    const wires: Wire[] = [];
    // Closed without a word; one that was too slow is told so.
    const isCut = (wire: Wire): boolean => wire.closed && wire.answer() === undefined;
    const { grownMb } = await fortress.cost(async () => {
      for (let count = 0; count < FRESH_MAX + beyond; count += 1) {
        const wire = await Wire.open(fortress.port);
        wire.send(count % 2 === 0 ? 'GET /ping HTTP/1.1\r\nhost: x\r\nx-slow: ' : '');
        wires.push(wire);
      }
      await until(() => wires.slice(0, beyond).filter(isCut).length >= beyond - 100, {
        what: 'the oldest are cut',
        timeoutMs: 60_000,
      });
    });
    assert.ok(
      wires.slice(-200).every((wire) => !isCut(wire)),
      'the newest may still speak',
    );
    console.log(`      ${wires.length} slow heads: ${grownMb.toFixed(0)} MB`);
    assert.ok(grownMb < 200, `${grownMb} MB`);
    for (const wire of wires) wire.destroy();
    await until(() => fortress.usage().files < 200, {
      what: 'HQ has closed its end of them',
      timeoutMs: 60_000,
    });
  });

  it('bodies that never come hold no place of anybody else, and of one store only eight', async () => {
    const wires: Wire[] = [];
    await fortress.during(async () => {
      for (let count = 0; count < 60; count += 1) {
        const wire = await Wire.open(fortress.port);
        wire.send(push(Buffer.from('{'), ['content-length', '1000000']));
        wires.push(wire);
      }
      await until(() => wires.filter(({ closed }) => closed).length >= 52, {
        what: 'its own oldest are cut',
        timeoutMs: 60_000,
      });
    });
    assert.equal(wires.filter(({ closed }) => !closed).length, 8, 'those that came last may still send');
    for (const wire of wires) wire.destroy();
  });

  it('a flood of hellos over HTTP is answered 200 or 429, and the database serves the others', async () => {
    const hello = rawRequest({
      method: 'POST',
      path: ROUTES.hello,
      headers: [signed()],
      body: Buffer.from(JSON.stringify(helloMessage('EVIL-1'))),
    });
    const statuses = new Map<number, number>();
    const { grownMb } = await fortress.cost(async () => {
      for (let round = 0; round < 20; round += 1) {
        const answers = await Promise.all(Array.from({ length: 8 }, () => exchange(fortress.port, hello)));
        for (const answer of answers)
          statuses.set(answer?.status ?? 0, (statuses.get(answer?.status ?? 0) ?? 0) + 1);
      }
    });
    assert.deepEqual(
      [...statuses.keys()].filter((status) => ![0, 200, 429].includes(status)),
      [],
    );
    assert.ok((statuses.get(429) ?? 0) > 50, JSON.stringify([...statuses]));
    assert.ok(grownMb < 60, `${grownMb} MB`);
  });

  it('a page that nobody reads is not kept more than eight times', async () => {
    await fortress.pool.query(
      `insert into public.products (id, sku, name, price)
       select gen_random_uuid(), 'SKU-' || n, repeat(md5(n::text), 80), 1 from generate_series(1, 3000) n`,
    );
    await fortress.healthyWorks();
    const wires: Wire[] = [];
    const { grownMb } = await fortress.cost(async () => {
      for (let count = 0; count < 60; count += 1) {
        const wire = await Wire.open(fortress.port);
        wire.socket.pause();
        wire.send(
          `GET ${ROUTES.pull}?from=0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${evil.bearer}\r\n\r\n`,
        );
        wires.push(wire);
        await fortress.healthyWorks();
      }
    });
    for (const wire of wires) wire.destroy();
    console.log(`      60 unread pages of 8 MB: ${grownMb.toFixed(0)} MB`);
    // Eight of them, each as text and as bytes for a moment; all sixty would be half a gigabyte in bytes alone.
    assert.ok(grownMb < 420, `${grownMb} MB`);
  });

  it('a refused upgrade whose client does not close is closed by HQ', async () => {
    const before = fortress.usage().files;
    const wires: Wire[] = [];
    for (let count = 0; count < 40; count += 1) {
      const wire = await Wire.open(fortress.port, { allowHalfOpen: true });
      wire.send(
        `GET ${ROUTES.socket} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n` +
          'sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
      );
      wires.push(wire);
    }
    await until(() => wires.every((wire) => wire.answer()?.status === 401), { what: 'each is refused' });
    await until(() => fortress.usage().files <= before + 5, { what: 'HQ holds none of them' });
    for (const wire of wires) wire.destroy();
  });

  it('what is no HTTP, or too long for it, is answered with a code and the identity of HQ', async () => {
    const cases: readonly (readonly [string, number])[] = [
      ['\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400],
      ['GET / HTTP/9.9\r\n\r\n', 400],
      ['SELECT * FROM tokens;\r\n\r\n', 400],
      [`GET /ping HTTP/1.1\r\nhost: x\r\n${'header: value\r\n'.repeat(5_000)}\r\n`, 431],
      [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\nhost: x\r\n\r\n`, 431],
      ['POST /ping HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n', 400],
      ['CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n', 400],
      ['GET // HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n', 400],
    ];
    for (const [text, status] of cases) {
      const answer = await exchange(fortress.port, Buffer.from(text, 'latin1'));
      assert.equal(answer?.status, status, text.slice(0, 40));
      assert.equal(answer.headers[HQ_HEADER], fortress.hqId, text.slice(0, 40));
      assert.match(refusalCode(answer) ?? '', /^PS-/, text.slice(0, 40));
    }
  });

  it('has no fault of its own in the log after all that', async () => {
    assert.deepEqual(await fortress.faults(), []);
  });
});
