/**
 * b.11 WebSocket: "101 Switching Protocols" is not "works".
 *
 *   upgrade   asked for by hand, so that every header of every answer is seen
 *   echo      frames go out and come back, text, binary and ping
 *   hold      it still lives after five seconds
 *   large     frames of every size come back
 *
 * All of it over the test protocol, which needs no token and cannot disturb the daemon's own connection.
 */
import { createHash, randomBytes } from 'node:crypto';
import http from 'node:http';
import { codeOf } from '../../core/classify.ts';
import { isErrorCode } from '../../core/errors.ts';
import { noUpgradeSchema } from '../../protocol/diag.ts';
import { DIAG_SUBPROTOCOL, HQ_HEADER, ROUTES } from '../../protocol/http.ts';
import { errorBodySchema } from '../../protocol/messages.ts';
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';
import { connectSecured, StepTimeout, targetOf, within } from '../dial.ts';
import { openEcho, type EchoEnd } from '../echo.ts';
import { part } from './daemon.ts';
import { parseJson } from './http.ts';

export const WEBSOCKET: readonly Check[] = [
  {
    id: 'ws.upgrade',
    layer: 'ws',
    title: 'the upgrade to WebSocket passes',
    dependsOn: ['http.identity'],
    run: checkUpgrade,
  },
  {
    id: 'ws.echo',
    layer: 'ws',
    title: 'frames pass',
    dependsOn: ['ws.upgrade'],
    limitMs: 8_000,
    run: checkEcho,
  },
  {
    id: 'ws.hold',
    layer: 'ws',
    title: 'the WebSocket stays open',
    dependsOn: ['ws.echo'],
    slow: true,
    limitMs: 12_000,
    run: checkHold,
  },
  {
    id: 'ws.idle',
    layer: 'ws',
    title: 'the WebSocket survives silence',
    dependsOn: ['ws.echo'],
    deep: true,
    limitMs: 90_000,
    run: checkIdle,
  },
  {
    id: 'ws.large',
    layer: 'ws',
    title: 'large frames pass',
    dependsOn: ['ws.echo'],
    limitMs: 9_000,
    run: checkLarge,
  },
  {
    id: 'ws.duplicate',
    layer: 'ws',
    title: 'no other machine is connected as this store',
    dependsOn: ['token.valid'],
    run: checkDuplicate,
  },
  {
    id: 'ws.hqview',
    layer: 'ws',
    title: 'HQ sees the connection that the daemon has',
    dependsOn: ['token.valid'],
    after: ['daemon.running'],
    run: checkHqView,
  },
];

interface UpgradeAnswer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  /** node saw a real upgrade: status 101 with its headers. */
  readonly upgraded: boolean;
}

/** Given by RFC 6455; with the key it proves that the answer was made for this question. */
const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

async function checkUpgrade(probe: Probe): Promise<Finding> {
  const target = targetOf(probe);
  const name = `${target.host}:${target.port}`;
  const key = randomBytes(16).toString('base64');
  let answer: UpgradeAnswer;
  try {
    answer = await upgrade(probe, key);
  } catch (error) {
    const code = codeOf(error) ?? '';
    const detail = { target: name, evidence: { errno: code } };
    if (error instanceof StepTimeout)
      return fail('PS-WS-NOANSWER', 'HTTP works, but the WebSocket upgrade is never answered', detail);
    if (code.startsWith('HPE_'))
      return fail('PS-WS-MANGLED', 'the answer to the WebSocket upgrade is damaged on the way', detail);
    return fail('PS-WS-CUT', `the connection is cut on the WebSocket upgrade (${code})`, detail);
  }
  if (!answer.upgraded) return notUpgraded(answer, name);
  const detail = { target: name, evidence: { status: answer.status } };
  const accept = createHash('sha1').update(`${key}${ACCEPT_GUID}`).digest('base64');
  if (answer.headers['sec-websocket-accept'] !== accept)
    return fail(
      'PS-WS-MANGLED',
      'something answers the WebSocket upgrade in the name of HQ (wrong accept key)',
      detail,
    );
  if (answer.headers['sec-websocket-protocol'] !== DIAG_SUBPROTOCOL)
    return fail('PS-WS-SUBPROTO', 'the test protocol of the WebSocket was removed on the way', detail);
  return pass('101');
}

async function upgrade(probe: Probe, key: string): Promise<UpgradeAnswer> {
  const { host, port } = targetOf(probe);
  const socket = await connectSecured(probe);
  const request = http.request({
    createConnection: () => socket,
    path: ROUTES.socket,
    headers: {
      host: `${host}:${port}`,
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': key,
      'sec-websocket-protocol': DIAG_SUBPROTOCOL,
    },
  });
  const answered = new Promise<UpgradeAnswer>((resolve, reject) => {
    request.once('upgrade', ({ statusCode = 0, headers }) => {
      resolve({ status: statusCode, headers, text: '', upgraded: true });
    });
    request.once('response', (response) => {
      // A 101 without its headers has no body that ends; only real answers are read.
      const status = response.statusCode ?? 0;
      if (status === 101) {
        resolve({ status, headers: response.headers, text: '', upgraded: false });
        return;
      }
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        if (text.length < 64 * 1024) text += chunk;
      });
      const end = (): void => {
        resolve({ status, headers: response.headers, text, upgraded: false });
      };
      response.once('end', end);
      response.once('error', end);
    });
    request.once('error', reject);
  });
  request.end();
  try {
    return await within(probe, 'upgrade', probe.patience.replyMs, answered);
  } finally {
    socket.destroy();
  }
}

function notUpgraded({ status, headers, text }: UpgradeAnswer, name: string): Finding {
  const server = [headers.server ?? headers.via ?? []].flat().join(', ');
  const who = server === '' ? '' : ` (${headers.server === undefined ? 'Via' : 'Server'}: ${server})`;
  const detail = { target: name, evidence: { status, server } };
  if (headers[HQ_HEADER] !== undefined) {
    const saw = noUpgradeSchema.safeParse(parseJson(text));
    if (status === 426 && saw.success && !saw.data.saw.upgrade) {
      const via = saw.data.saw.via;
      return fail(
        'PS-WS-STRIPPED',
        `a proxy or firewall removes the WebSocket upgrade; HQ received the request without it${via === null ? '' : ` (Via: ${via})`}`,
        { ...detail, evidence: { ...detail.evidence, saw: saw.data.saw } },
      );
    }
    const body = errorBodySchema.safeParse(parseJson(text));
    const code = body.success ? body.data.error.code : '';
    if (isErrorCode(code))
      return fail(code, `HQ refuses the WebSocket: ${body.data?.error.message ?? code}`, detail);
    if (status === 429) return fail('PS-HQ-BUSY', 'HQ is busy', detail);
    return fail('PS-HQ-ERROR', `HQ answers ${status} to the WebSocket upgrade`, detail);
  }
  if (status === 407)
    return fail('PS-PROXY-AUTH', 'a proxy on the way wants a user name and password', detail);
  if (status === 502 || status === 503 || status === 504)
    return fail('PS-WS-GATEWAY', `HQ's load balancer answers ${status} to WebSocket${who}`, detail);
  if (status >= 300 && status < 400)
    return fail(
      'PS-HTTP-PORTAL',
      `the WebSocket is sent to another page (${headers.location ?? '?'})`,
      detail,
    );
  if (status === 401 || status === 403 || status === 451)
    return fail('PS-WS-BLOCKED', `a web filter refuses WebSocket with ${status}${who}`, detail);
  return fail(
    'PS-WS-STRIPPED',
    `the WebSocket upgrade is answered with ${status}${who}: it was removed on the way`,
    detail,
  );
}

/** How an echo connection ended before its time. */
function ended(end: EchoEnd, afterMs: number, target: string): Finding {
  const detail = { target, evidence: { close: end.code, error: end.error ?? null, after_ms: afterMs } };
  if (end.error?.startsWith('WS_ERR_') === true)
    return fail('PS-WS-MANGLED', `WebSocket frames are damaged on the way (${end.error})`, detail);
  return fail('PS-WS-KILLED', `the WebSocket is cut ${(afterMs / 1_000).toFixed(1)} s after opening`, detail);
}

async function checkEcho(probe: Probe): Promise<Finding> {
  const target = targetOf(probe);
  const startedAt = performance.now();
  const elapsed = (): number => Math.round(performance.now() - startedAt);
  const echo = await openEcho(probe);
  try {
    const times: number[] = [];
    for (const bytes of [16, 512]) {
      const sentAt = performance.now();
      const back = await echo.send(bytes, probe.patience.replyMs);
      if (back === 'lost')
        return fail('PS-WS-DEAD', 'the WebSocket opens but no data passes: frames are swallowed on the way', {
          target: target.host,
        });
      if (back !== 'ok') return ended(back, elapsed(), target.host);
      times.push(performance.now() - sentAt);
    }
    probe.facts.echoMs = times;
    return pass(`echo ${Math.round(Math.min(...times))} ms`);
  } finally {
    echo.close();
  }
}

async function checkHold(probe: Probe): Promise<Finding> {
  const { holdMs } = probe.patience;
  const startedAt = performance.now();
  const echo = await openEcho(probe);
  try {
    const steps = 5;
    for (let step = 0; step < steps; step++) {
      const end = await echo.quiet(holdMs / steps);
      const back = end ?? (await echo.send(16, probe.patience.replyMs));
      const afterMs = Math.round(performance.now() - startedAt);
      if (back === 'lost')
        return fail('PS-WS-DEAD', `the WebSocket goes silent after ${(afterMs / 1_000).toFixed(1)} s`, {
          target: targetOf(probe).host,
        });
      if (back !== 'ok') return ended(back, afterMs, targetOf(probe).host);
    }
    return pass(`held ${Math.round(holdMs / 1_000)} s`);
  } finally {
    echo.close();
  }
}

async function checkIdle(probe: Probe): Promise<Finding> {
  const { idleMs, replyMs } = probe.patience;
  const startedAt = performance.now();
  const echo = await openEcho(probe);
  try {
    const end = await echo.quiet(idleMs);
    const back = end ?? (await echo.send(16, replyMs));
    if (back === 'ok') return pass(`${Math.round(idleMs / 1_000)} s of silence`);
    const afterMs = Math.round(performance.now() - startedAt);
    const seconds = (afterMs / 1_000).toFixed(afterMs < 10_000 ? 1 : 0);
    return warn('PS-WS-IDLE', `something closes the connection after ${seconds} s without data`, {
      hint: `raise the idle timeout on the path to 120 s or more; possync's heartbeat of 5 s keeps it open meanwhile`,
      evidence: { after_ms: afterMs },
    });
  } finally {
    echo.close();
  }
}

/** Around the usual packet sizes, and close to the largest frame that possync sends. */
const SIZES = [1_200, 1_300, 1_500, 4_096, 65_000] as const;

async function checkLarge(probe: Probe): Promise<Finding> {
  const echo = await openEcho(probe);
  let largest = 512;
  try {
    for (const bytes of SIZES) {
      // One lost frame is enough: what follows on the same connection would be lost behind it.
      const back = await echo.send(bytes, probe.patience.replyMs);
      if (back === 'ok') {
        largest = bytes;
        continue;
      }
      const evidence = { largest_echoed_bytes: largest, lost_bytes: bytes };
      if (back !== 'lost' && back.code === 1009)
        return fail('PS-WS-TOOBIG', `WebSocket frames of ${bytes} bytes are refused`, { evidence });
      return fail(
        'PS-PATH-MTU',
        `packets larger than about ${largest} bytes are lost on the way to HQ: small messages pass, big ones hang`,
        { target: targetOf(probe).host, evidence },
      );
    }
    probe.facts.largestEcho = largest;
    return pass(`up to ${Math.floor(largest / 1_000)} kB`);
  } finally {
    echo.close();
  }
}

function checkDuplicate({ facts }: Probe): Finding {
  const connections = facts.whoami?.connections ?? 0;
  return connections > 1
    ? warn(
        'PS-WS-DUPLICATE',
        `${connections} machines are connected as this store; was this server cloned?`,
        {
          evidence: { connections },
        },
      )
    : pass(connections === 1 ? 'one connection' : 'no connection now');
}

/** Both ends write what they see every five seconds; what differs for longer than three writes is no delay. */
const VIEW_MS = 15_000;

function checkHqView({ facts, machine }: Probe): Finding {
  const { indicator: mine, since } = part(facts.daemon ?? {}, 'connection');
  const hqs = facts.whoami?.light;
  if (hqs === undefined || hqs === null) return pass('HQ does not say');
  if (mine !== 'green' && mine !== 'red') return pass(`HQ says ${hqs.indicator}; the daemon was not asked`);
  const evidence = { store: mine, store_since: since, hq: hqs.indicator, hq_since: hqs.since };
  if (mine === hqs.indicator) return pass(`${mine} on both sides`, evidence);
  const forMs = typeof since === 'string' ? machine.clock.now() - Date.parse(since) : 0;
  if (!(forMs > VIEW_MS)) return pass(`${mine} here, ${hqs.indicator} at HQ for a moment`, evidence);
  return warn(
    'PS-VIEW-DIFFERS',
    mine === 'green'
      ? 'the daemon calls its connection green, but HQ does not see it'
      : 'HQ sees a connection of this store, but it is not the one of this daemon',
    { evidence },
  );
}
