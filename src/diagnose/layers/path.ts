/** b.12 The quality of the path: packet sizes, delay and loss, throughput, buffering. */
import { DIAG_LIMIT_BYTES, ROUTES } from '../../protocol/http.ts';
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';
import { requestHq, StepTimeout, targetOf, type HttpAnswer } from '../dial.ts';
import { openEcho } from '../echo.ts';

export const PATH: readonly Check[] = [
  {
    id: 'path.mtu',
    layer: 'path',
    title: 'packets of every size pass',
    dependsOn: ['token.valid'],
    slow: true,
    limitMs: 9_000,
    run: checkSizes,
  },
  {
    id: 'path.latency',
    layer: 'path',
    title: 'the line is steady',
    dependsOn: ['ws.echo'],
    slow: true,
    limitMs: 9_000,
    run: checkLatency,
  },
  {
    id: 'path.bandwidth',
    layer: 'path',
    title: 'the line is wide enough',
    dependsOn: ['path.mtu'],
    deep: true,
    limitMs: 14_000,
    run: checkBandwidth,
  },
  {
    id: 'path.proxybuffer',
    layer: 'path',
    title: 'replies come as they are sent',
    dependsOn: ['token.valid'],
    slow: true,
    run: checkBuffering,
  },
];

const UNMEASURED = 'not measured: HQ gives this only to a store with a token';

function authorization({ subject }: Probe): Record<string, string> | undefined {
  return subject.credential === undefined
    ? undefined
    : { authorization: `Bearer ${subject.credential.token.reveal()}` };
}

const SIZES = [500, 1_200, 1_400, 1_600, 4_000, 65_536] as const;

async function checkSizes(probe: Probe): Promise<Finding> {
  const headers = authorization(probe);
  if (headers === undefined) return pass(UNMEASURED);
  const sizes = await Promise.all(
    SIZES.map(async (bytes) => ({
      bytes,
      up: await passes(
        requestHq(probe, { path: ROUTES.diagSink, method: 'POST', body: Buffer.alloc(bytes, 1), headers }),
      ),
      down: await passes(requestHq(probe, { path: `${ROUTES.diagSource}?bytes=${bytes}`, headers })),
    })),
  );
  const evidence = { sizes, mtu: await localMtu(probe) };
  const lost = sizes.find(({ up, down }) => up === 'lost' || down === 'lost');
  if (lost === undefined) return pass(`up to ${Math.floor((SIZES.at(-1) ?? 0) / 1_024)} KiB`, evidence);
  const largest = Math.max(0, ...sizes.filter(({ bytes }) => bytes < lost.bytes).map(({ bytes }) => bytes));
  if (largest === 0) return warn('PS-PATH-LOSS', 'test packets of every size are lost', { evidence });
  const way = lost.up === 'lost' ? 'to HQ' : 'from HQ';
  return fail('PS-PATH-MTU', `packets larger than about ${largest} bytes are lost on the way ${way}`, {
    target: targetOf(probe).host,
    evidence,
  });
}

/** `refused` says nothing of packets: HQ limits its probes. */
async function passes(request: Promise<HttpAnswer>): Promise<'ok' | 'lost' | 'refused'> {
  try {
    const { status } = await request;
    return status === 200 ? 'ok' : 'refused';
  } catch (error) {
    return error instanceof StepTimeout ? 'lost' : 'refused';
  }
}

async function localMtu({ machine }: Probe): Promise<number | null> {
  const [first] = machine.interfaces();
  if (first === undefined) return null;
  const text = await machine.systemFile(`/sys/class/net/${first.name}/mtu`);
  return text === undefined ? null : Number(text.trim());
}

const ECHOES = 10;
const P95_WARN_MS = 1_000;

async function checkLatency(probe: Probe): Promise<Finding> {
  const echo = await openEcho(probe);
  const times: number[] = [];
  let lost = 0;
  try {
    for (let index = 0; index < ECHOES && !probe.signal.aborted; index++) {
      const sentAt = performance.now();
      const back = await echo.send(16 + index, probe.patience.replyMs);
      if (back === 'ok') times.push(performance.now() - sentAt);
      else if (back === 'lost') lost += 1;
      else break; // the WebSocket checks name an end
      if (lost >= 3) break;
    }
  } finally {
    echo.close();
  }
  times.sort((a, b) => a - b);
  const at = (part: number): number => Math.round(times[Math.ceil(times.length * part) - 1] ?? 0);
  const [low, middle, high] = [Math.round(times[0] ?? 0), at(0.5), at(0.95)];
  const evidence = { echoes: times.length, lost, min_ms: low, median_ms: middle, p95_ms: high };
  if (lost > 0) {
    return warn(
      'PS-PATH-LOSS',
      `the line is unstable: ${lost} of ${times.length + lost} probes lost, ${low}–${high} ms`,
      {
        evidence,
      },
    );
  }
  if (high > P95_WARN_MS)
    return warn('PS-PATH-SLOW', `the line is slow: ${middle} ms, p95 ${high} ms`, { evidence });
  return pass(`p95 ${high} ms`, evidence);
}

const THIN_BITS_PER_SECOND = 64_000;
const TRANSFER_MS = 5_000;

async function checkBandwidth(probe: Probe): Promise<Finding> {
  const headers = authorization(probe);
  if (headers === undefined) return pass(UNMEASURED);
  const down = await rate(async (count) => {
    await requestHq(probe, {
      path: `${ROUTES.diagSource}?bytes=${DIAG_LIMIT_BYTES}`,
      headers,
      limitMs: TRANSFER_MS,
      onChunk: count,
    });
  });
  const up = await rate(async (count) => {
    await requestHq(probe, {
      path: ROUTES.diagSink,
      method: 'POST',
      body: Buffer.alloc(DIAG_LIMIT_BYTES, 1),
      headers,
      limitMs: TRANSFER_MS,
    });
    count(DIAG_LIMIT_BYTES);
  });
  const evidence = { down_bits_per_second: down, up_bits_per_second: up };
  const words = `${megabits(down)} down, ${up === 0 ? 'less than 1 MiB in 5 s' : megabits(up)} up`;
  return down < THIN_BITS_PER_SECOND
    ? warn('PS-PATH-THIN', `the line carries only ${words}`, { evidence })
    : pass(words, evidence);
}

/** Bits a second of what arrived, also when the time ended first. */
async function rate(transfer: (count: (bytes: number) => void) => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  let bytes = 0;
  try {
    await transfer((more) => {
      bytes += more;
    });
  } catch {
    // Cut off by its limit: what arrived until then is the measure.
  }
  return Math.round((bytes * 8_000) / Math.max(1, performance.now() - startedAt));
}

function megabits(bitsPerSecond: number): string {
  return `${(bitsPerSecond / 1_000_000).toFixed(1)} Mbit/s`;
}

const CHUNKS = 6;

async function checkBuffering(probe: Probe): Promise<Finding> {
  const headers = authorization(probe);
  if (headers === undefined) return pass(UNMEASURED);
  const arrivals: number[] = [];
  try {
    const { status } = await requestHq(probe, {
      path: `${ROUTES.diagSource}?bytes=${CHUNKS * 100}&chunks=${CHUNKS}`,
      headers,
      onChunk: () => arrivals.push(performance.now()),
    });
    if (status !== 200) return pass('HQ is too busy to measure');
  } catch {
    return pass('not measured');
  }
  const spread = Math.round((arrivals.at(-1) ?? 0) - (arrivals[0] ?? 0));
  const evidence = { pieces: arrivals.length, spread_ms: spread };
  // Sent over a second; a fifth of it is far more than any queue on the way adds.
  return spread < 200
    ? warn('PS-PATH-BUFFERED', 'a proxy collects replies before it passes them on', { evidence })
    : pass(`${arrivals.length} pieces over ${spread} ms`, evidence);
}
