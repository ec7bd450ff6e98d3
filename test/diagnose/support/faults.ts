/** Every fault of the lab: what is broken, and the one code that the verdict must give. */
import type { ErrorCode } from '../../../src/core/errors.ts';
import type { Lab, Situation } from './lab.ts';
import { HTTP_FAULTS } from './faults-http.ts';
import { LOCAL_FAULTS } from './faults-local.ts';
import { NETWORK_FAULTS } from './faults-network.ts';
import { TLS_FAULTS } from './faults-tls.ts';
import { WEBSOCKET_FAULTS } from './faults-websocket.ts';

export interface Fault {
  /** A sentence: what is broken. */
  readonly what: string;
  readonly code: ErrorCode;
  /** How the lab makes it, for docs/faults.md. */
  readonly how: string;
  arrange(lab: Lab): Promise<Situation>;
}

export const FAULTS: readonly Fault[] = [
  ...LOCAL_FAULTS,
  ...NETWORK_FAULTS,
  ...TLS_FAULTS,
  ...HTTP_FAULTS,
  ...WEBSOCKET_FAULTS,
];
