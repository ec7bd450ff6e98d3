/** Every check, in path order. The order is a contract: output, verdict and the ids in scripts follow it. */
import type { Check } from './check.ts';
import { CONFIGURATION } from './layers/configuration.ts';
import { DAEMON } from './layers/daemon.ts';
import { DATABASE } from './layers/database.ts';
import { DNS } from './layers/dns.ts';
import { HTTP } from './layers/http.ts';
import { MACHINE } from './layers/machine.ts';
import { PATH } from './layers/path.ts';
import { PROXY } from './layers/proxy.ts';
import { QUEUE } from './layers/queue.ts';
import { TCP } from './layers/tcp.ts';
import { TLS } from './layers/tls.ts';
import { TOKEN } from './layers/token.ts';
import { WEBSOCKET } from './layers/websocket.ts';

export const CHECKS: readonly Check[] = [
  ...CONFIGURATION,
  ...MACHINE,
  ...DAEMON,
  ...DATABASE,
  ...QUEUE,
  ...DNS,
  ...TCP,
  ...PROXY,
  ...TLS,
  ...HTTP,
  ...TOKEN,
  ...WEBSOCKET,
  ...PATH,
];
