/** The systemd units of possync, as text: what `possync service install` writes and a package would ship. */

export interface UnitOptions {
  readonly side: 'hq' | 'store';
  /** `/usr/bin/node /usr/lib/possync/bin/possync.js` */
  readonly command: string;
  readonly user: string;
}

export interface UnitFile {
  /** File name in /etc/systemd/system. */
  readonly name: string;
  readonly text: string;
}

const TITLES = {
  hq: 'possync head office (HTTP and WebSocket for the stores)',
  store: 'possync store sync daemon (POS store <-> HQ)',
} as const;

/**
 * `network.target` and not `network-online.target`: a store must start without a line. No MemoryDenyWriteExecute: V8
 * compiles at run time. NotifyAccess=all: systemd-notify is a child. Exit codes that no restart mends do not restart.
 */
export function serverUnit({ side, command, user }: UnitOptions): UnitFile {
  return {
    name: `possync-${side}.service`,
    text: `[Unit]
Description=${TITLES[side]}
Documentation=file:///usr/share/doc/possync/runbook.md
After=network.target postgresql.service
Wants=postgresql.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=all
ExecStart=${command} ${side === 'hq' ? 'hq serve' : 'store daemon'}
ExecReload=/bin/kill -HUP $MAINPID
User=${user}
EnvironmentFile=-/etc/possync/possync.env
${directories(side)}UMask=0077
Restart=always
RestartSec=5
RestartPreventExitStatus=64 66 77 78
TimeoutStartSec=60
TimeoutStopSec=30
WatchdogSec=60
MemoryMax=${side === 'hq' ? '2G' : '512M'}
${HARDENING}
[Install]
WantedBy=multi-user.target
`,
  };
}

/** HQ keeps no state beside its database; only the store has a credential and a socket. */
function directories(side: UnitOptions['side']): string {
  return side === 'hq'
    ? 'LogsDirectory=possync\nConfigurationDirectory=possync\n'
    : 'StateDirectory=possync\nStateDirectoryMode=0700\nLogsDirectory=possync\nRuntimeDirectory=possync\nConfigurationDirectory=possync\n';
}

const HARDENING = `NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
CapabilityBoundingSet=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
`;

/** Once a day a quick diagnosis for the monitoring system's text files; what it finds is not a failure of the unit. */
export function diagnoseUnits({ command, user }: UnitOptions): UnitFile[] {
  return [
    {
      name: 'possync-diagnose.service',
      text: `[Unit]
Description=possync diagnosis of this store
After=network.target possync-store.service

[Service]
Type=oneshot
ExecStart=${command} diagnose --format prom
StandardOutput=truncate:/var/log/possync/possync-diagnose.prom
SuccessExitStatus=1
User=${user}
EnvironmentFile=-/etc/possync/possync.env
Environment=POSSYNC_STATE_DIR=/var/lib/possync LOG_DIR=/var/log/possync
LogsDirectory=possync
UMask=0027
TimeoutStartSec=60
${HARDENING}`,
    },
    {
      name: 'possync-diagnose.timer',
      text: `[Unit]
Description=possync diagnosis of this store, once a day

[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=true

[Install]
WantedBy=timers.target
`,
    },
  ];
}

export function unitsOf(options: UnitOptions): UnitFile[] {
  return [serverUnit(options), ...(options.side === 'store' ? diagnoseUnits(options) : [])];
}
