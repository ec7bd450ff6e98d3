/** b.9 HTTP and identity: is it HQ that answers, the right one, ready, of a version and a time that fit. */
import { SOFTWARE, VERSION } from '../../core/version.ts';
import { codeOf } from '../../core/classify.ts';
import { diagPingSchema } from '../../protocol/diag.ts';
import { HQ_HEADER, ROUTES } from '../../protocol/http.ts';
import { errorBodySchema } from '../../protocol/messages.ts';
import { CLOCK_SKEW_WARN_MS } from '../../protocol/status.ts';
import { OLDEST_SERVED, PROTOCOL_VERSION } from '../../protocol/version.ts';
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';
import { requestHq, StepTimeout, targetOf, titleOf, type HttpAnswer } from '../dial.ts';
import { TLS_TRUST } from './tls.ts';

export const HTTP: readonly Check[] = [
  {
    id: 'http.redirect',
    layer: 'http',
    title: 'no login page is in the way',
    dependsOn: ['tls.handshake', ...TLS_TRUST],
    run: checkPing,
  },
  {
    id: 'http.identity',
    layer: 'http',
    title: 'it is possync HQ that answers',
    dependsOn: ['http.redirect'],
    run: checkIdentity,
  },
  {
    id: 'http.health',
    layer: 'http',
    title: 'HQ is ready',
    dependsOn: ['http.identity'],
    run: checkHealth,
  },
  {
    id: 'http.headers',
    layer: 'http',
    title: 'no proxy changes what is sent',
    dependsOn: ['http.identity'],
    run: checkHeaders,
  },
  {
    id: 'http.version',
    layer: 'http',
    title: 'HQ and this store understand each other',
    dependsOn: ['http.identity'],
    run: checkVersion,
  },
  {
    id: 'clock.skew',
    layer: 'http',
    title: "this store's clock agrees with HQ's",
    dependsOn: ['tls.handshake'],
    run: checkSkew,
  },
];

/** What stopped a request once TLS stood; shared with the checks that send a token. */
export function requestFailure(error: unknown, target: string): Finding {
  const code = codeOf(error) ?? '';
  const detail = { target, evidence: { errno: code } };
  if (error instanceof StepTimeout)
    return fail('PS-HTTP-SILENT', 'connected, but no answer to an HTTP request', detail);
  if (code.startsWith('HPE_'))
    return fail('PS-HTTP-NOTHQ', 'something that does not speak HTTP answers', detail);
  return fail('PS-HTTP-CUT', `the connection is cut during an HTTP request (${code})`, detail);
}

export function isRedirect({ status }: HttpAnswer): boolean {
  return status >= 300 && status < 400;
}

export function isFromHq({ headers }: HttpAnswer): boolean {
  return headers[HQ_HEADER] !== undefined;
}

/** The one request that later checks read from; it carries an upgrade-like header to see whether it arrives. */
async function checkPing(probe: Probe): Promise<Finding> {
  const target = targetOf(probe);
  const name = `${target.host}:${target.port}`;
  let answer: HttpAnswer;
  try {
    answer = await requestHq(probe, { path: ROUTES.diagPing, headers: { 'user-agent': SOFTWARE } });
  } catch (error) {
    return requestFailure(error, name);
  }
  if (isRedirect(answer) && !isFromHq(answer)) {
    const where = answer.headers.location ?? 'elsewhere';
    return fail('PS-HTTP-PORTAL', `the network sends us to a login page (${where})`, {
      target: name,
      evidence: { status: answer.status, location: where },
    });
  }
  probe.facts.pingHeaders = {
    ...answer.headers,
    ':status': String(answer.status),
    ':title': titleOf(answer),
  };
  if (isFromHq(answer)) {
    const parsed = diagPingSchema.safeParse(parseJson(answer.text));
    if (parsed.success) probe.facts.ping = parsed.data;
  }
  return pass(`HTTP ${answer.status}`);
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // a page in place of a document; the schema says so
  }
}

function checkIdentity(probe: Probe): Finding {
  const { facts, subject } = probe;
  const target = targetOf(probe);
  const name = `${target.host}:${target.port}`;
  const headers = facts.pingHeaders ?? {};
  const status = Number(headers[':status']);
  const evidence = { status, server: headers.server ?? null };
  const detail = { target: name, evidence };
  if (headers[HQ_HEADER] === undefined) {
    const title = headers[':title'] ?? '';
    const who = title === '' ? '' : ` (${title})`;
    if (status === 401 || status === 403 || status === 451)
      return fail(
        'PS-HTTP-BLOCKED',
        `something other than HQ refuses the request with ${status}${who}`,
        detail,
      );
    if (status === 407)
      return fail('PS-PROXY-AUTH', 'a proxy on the way wants a user name and password', detail);
    if (status === 502 || status === 503 || status === 504)
      return fail('PS-HQ-ERROR', `a load balancer in front of HQ answers ${status}: HQ is down${who}`, {
        ...detail,
        hint: 'ask HQ whether `possync hq serve` runs behind its load balancer',
      });
    return fail('PS-HTTP-NOTHQ', `something other than possync HQ answers at ${name}${who}`, detail);
  }
  if (status === 429) return busy(headers['retry-after']);
  if (status >= 500) return fail('PS-HQ-ERROR', `HQ answers with an error of its own (${status})`, detail);
  if (facts.ping === undefined)
    return fail('PS-HTTP-NOTHQ', `HQ's answer to ${ROUTES.diagPing} cannot be read (${status})`, detail);
  const { id, software } = facts.ping.hq;
  if (subject.hqId !== undefined && subject.hqId !== id) {
    return fail('PS-HTTP-OTHERHQ', 'this is a different HQ than the one this store was enrolled with', {
      target: name,
      evidence: { expected: subject.hqId, found: id },
    });
  }
  return pass(software);
}

function busy(retryAfter: string | undefined): Finding {
  const wait = retryAfter === undefined ? '' : `; it asks to wait ${retryAfter} s`;
  return fail('PS-HQ-BUSY', `HQ is busy${wait}`, { hint: 'wait; possync comes back by itself' });
}

async function checkHealth(probe: Probe): Promise<Finding> {
  const name = targetOf(probe).host;
  let answer: HttpAnswer;
  try {
    answer = await requestHq(probe, { path: ROUTES.ready });
  } catch (error) {
    return requestFailure(error, name);
  }
  const { status } = answer;
  if (status === 200) return pass('ready');
  if (status === 429) return busy(answer.headers['retry-after']);
  const body = errorBodySchema.safeParse(parseJson(answer.text));
  const why = body.success ? `: ${body.data.error.message}` : '';
  const detail = { target: name, evidence: { status, body: answer.text.slice(0, 500) } };
  if (status === 503)
    return fail('PS-HQ-NOTREADY', `HQ is up but not ready${why}`, {
      ...detail,
      hint: 'look at the log of HQ (its database is down or not migrated); nothing to do in the store',
    });
  return fail('PS-HQ-ERROR', `HQ answers ${status} when asked whether it is ready${why}`, detail);
}

function checkHeaders({ facts }: Probe): Finding {
  const received = facts.ping?.headers ?? {};
  const via = received.via ?? facts.pingHeaders?.via;
  const evidence = {
    via: via ?? null,
    forwarded_for: received['x-forwarded-for'] ?? null,
    seen_as: facts.ping?.client.address ?? null,
  };
  if (via !== undefined) return warn('PS-HTTP-PROXIED', `a proxy is on the path (Via: ${via})`, { evidence });
  return pass(`HQ sees us as ${facts.ping?.client.address ?? 'unknown'}`, evidence);
}

function checkVersion({ facts }: Probe): Finding {
  const { ping } = facts;
  if (ping === undefined) return pass('unknown');
  const { version, oldest } = ping.protocol;
  const evidence = { here: PROTOCOL_VERSION, oldest_here: OLDEST_SERVED, hq: version, oldest_hq: oldest };
  if (oldest > PROTOCOL_VERSION)
    return fail(
      'PS-VER-INCOMPATIBLE',
      `HQ needs protocol ${oldest} or newer; this store speaks ${PROTOCOL_VERSION}`,
      {
        hint: 'update possync on this store',
        evidence,
      },
    );
  if (version < OLDEST_SERVED)
    return fail('PS-VER-INCOMPATIBLE', `HQ speaks protocol ${version}; this store needs ${OLDEST_SERVED}`, {
      hint: 'update possync at HQ',
      evidence,
    });
  const theirs = /(\d+)\.(\d+)\.\d+/.exec(ping.hq.software);
  const mine = /(\d+)\.(\d+)\.\d+/.exec(VERSION);
  const number = (match: RegExpExecArray | null): number =>
    Number(match?.[1] ?? 0) * 1_000 + Number(match?.[2] ?? 0);
  if (theirs !== null && number(theirs) > number(mine))
    return warn('PS-VER-OLD', `this store runs ${VERSION}, HQ ${ping.hq.software}`, { evidence });
  return pass(`HQ ${ping.hq.software}, protocol ${version}`, evidence);
}

const SKEW_SAMPLES = 5;
const SKEW_FAIL_MS = 300_000;

/**
 * HQ's clock minus ours, from the exchange with the shortest round trip: there the answer can be off by no more than
 * half of it. Read over an unverified connection, because a wrong clock is what makes verification fail.
 */
async function checkSkew(probe: Probe): Promise<Finding> {
  let best: { rtt: number; skew: number } | undefined;
  for (let index = 0; index < SKEW_SAMPLES && !probe.signal.aborted; index++) {
    let answer: HttpAnswer;
    try {
      answer = await requestHq(probe, { path: ROUTES.diagPing, verify: false, limitMs: 1_000 });
    } catch {
      break; // for the HTTP checks to name
    }
    const parsed = diagPingSchema.safeParse(parseJson(answer.text));
    const there = parsed.success ? Date.parse(parsed.data.hq.now) : Number.NaN;
    if (!isFromHq(answer) || Number.isNaN(there)) break;
    const rtt = answer.answeredAt - answer.sentAt;
    const skew = there - (answer.sentAt + rtt / 2);
    if (best === undefined || rtt < best.rtt) best = { rtt, skew };
  }
  if (best === undefined) return pass('HQ did not say the time');
  const { rtt, skew } = best;
  probe.facts.skewMs = skew;
  const evidence = { skew_ms: Math.round(skew), error_ms: Math.round(rtt / 2) };
  const sign = skew > 0 ? 'behind' : 'ahead of';
  const text = `this store's clock is ${duration(Math.abs(skew))} ${sign} HQ (±${(rtt / 2_000).toFixed(2)} s)`;
  if (Math.abs(skew) > SKEW_FAIL_MS) return fail('PS-CLOCK-SKEW', text, { evidence });
  if (Math.abs(skew) > CLOCK_SKEW_WARN_MS) return warn('PS-CLOCK-SKEW', text, { evidence });
  return pass(`clock ${skew < 0 ? '-' : '+'}${(Math.abs(skew) / 1_000).toFixed(1)} s`, evidence);
}

function duration(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48
    ? `${hours} h`
    : `${Math.floor(hours / 24)
        .toLocaleString('en')
        .replaceAll(',', ' ')} days`;
}
