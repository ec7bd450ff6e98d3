/**
 * The codes of what was found and not of what failed: by `possync diagnose` on the machine, in the database or on the way
 * to HQ, and by HQ's ledger in what stores have sent.
 *
 * They are part of the one code table (errors.ts); every one has a page in docs/runbook.md.
 */

/** Not an exception of a running program but the answer "no" of a command that looked. */
function found<const Hint extends string>(hint: Hint): { exit: 1; retry: 'never'; hint: Hint } {
  return { exit: 1, retry: 'never', hint };
}

const LOCAL_CODES = {
  /** Neither credential, environment nor config file says where HQ is. */
  'PS-CFG-MISSING': found('enrol this store: possync store init --token-file FILE'),
  /** A config file exists and this user may not read it. */
  'PS-CFG-PERM': found('run possync as its own user or as root: sudo -u possync possync diagnose'),
  /** The config file is no valid JSON. */
  'PS-CFG-SYNTAX': found('correct the line named above'),
  /** The address of HQ cannot be read as one. */
  'PS-CFG-URL': found('write the address of HQ like this: wss://hq.example.com:3001'),
  /** The address of HQ holds a user name or password. */
  'PS-CFG-URL-SECRET': found('remove the user name and password from the address of HQ'),
  /** A variable of the environment overrides the config file. */
  'PS-CFG-OVERRIDE': found('remove one of the two, so that the next reader is not misled'),
  /** The config file can be changed by other users. */
  'PS-CFG-WRITABLE': found('take the right away: chmod 0640 FILE'),
  /** Node is too old. */
  'PS-HOST-NODE': found('install Node 20.19 or newer'),
  /** Little or no room left on a disk that sales are saved on. */
  'PS-HOST-DISK': found('free space: sales are saved locally and need room'),
  /** The file system has no room for more files. */
  'PS-HOST-INODES': found('delete old files: the disk has room for no more of them'),
  /** No network interface has an address. */
  'PS-HOST-NOIP': found("check the cable and the router's DHCP"),
  /** No network cable, or the switch is off. */
  'PS-HOST-CABLE': found('plug the network cable in, or switch the switch on'),
  /** No default gateway. */
  'PS-HOST-NOROUTE': found("check the router's DHCP: it gave this machine no gateway"),
  /** The router does not answer on the local network. */
  'PS-HOST-GATEWAY': found('restart the router or check the switch'),
  /** A proxy is set in the environment that possync cannot use: only HTTP proxies lead to HQ. */
  'PS-PROXY-ENV': found('set POSSYNC_PROXY to an HTTP proxy, or add HQ to NO_PROXY'),
  /** The clock of this machine is not synchronised. */
  'PS-HOST-NTP': found('switch it on: sudo timedatectl set-ntp true'),
  /** The machine is overloaded. */
  'PS-HOST-LOAD': found('look at what else runs here: top'),
  /** The daemon left a dead socket. */
  'PS-DAEMON-STALE': found('restart the service: sudo systemctl restart possync-store'),
  /** This user may not ask the daemon. */
  'PS-DAEMON-PERM': found('run as root or join the group: sudo usermod -aG possync $USER'),
  /** The daemon does not answer. */
  'PS-DAEMON-HUNG': found('restart the service: sudo systemctl restart possync-store'),
  /** The running daemon is older than the installed program. */
  'PS-DAEMON-OLD': found('restart the service: sudo systemctl restart possync-store'),
  /** The daemon restarted several times within an hour. */
  'PS-DAEMON-FLAPPING': found('read why it ended: possync logs --level error'),
  /** The event loop of the daemon is blocked for long. */
  'PS-DAEMON-LAG': found('look at what else runs here: top; then restart the service'),
  /** The link to HQ breaks again and again after the same time. */
  'PS-LINK-PERIODIC': found('ask the network team what closes connections after this time'),
  /** The log directory cannot be written. */
  'PS-LOG-UNWRITABLE': found('correct LOG_DIR or its permissions; sync goes on without a log'),
  /** PostgreSQL's address does not answer at all. */
  'PS-DB-UNREACHABLE': found('correct DATABASE_URL, or check the way to the machine of PostgreSQL'),
  /** PostgreSQL is starting or stopping. */
  'PS-DB-STARTING': found('wait a minute; PostgreSQL is starting'),
  /** PostgreSQL has no connection left. */
  'PS-DB-FULL-CONN': found('stop what holds the connections, or raise max_connections'),
  /** The database does not exist. */
  'PS-DB-NODB': found('create it, or correct the name in DATABASE_URL'),
  /** PostgreSQL is too old. */
  'PS-DB-VERSION': found('upgrade PostgreSQL to 15 or newer'),
  /** A capture trigger is missing: what that table writes is not queued. */
  'PS-DB-TRIGGER-MISSING': found('install the triggers again: possync store init'),
  /** A capture trigger is switched off: what that table writes is not queued. */
  'PS-DB-TRIGGER-DISABLED': found('switch the triggers on again: possync store init'),
  /** PostgreSQL is out of disk space. */
  'PS-DB-DISK': found('free space first; queued sales are safe'),
  /** A commit takes long. */
  'PS-DB-SLOW': found('check the disk of PostgreSQL; it may be failing'),
  /** A transaction is open for hours and blocks cleaning and sealing. */
  'PS-DB-LONGTX': found('end the program that holds it open'),
  /** The clock of the database differs from the clock of this machine. */
  'PS-DB-CLOCK': found('synchronise both clocks: sudo timedatectl set-ntp true'),
  /** Very many changes wait. */
  'PS-QUEUE-DEEP': found('wait while it drains, and watch it: possync status'),
  /** Connected, yet nothing has been sent for long. */
  'PS-QUEUE-STUCK': found('look at the oldest entry: possync queue ls --limit 1'),
  /** HQ refused a record; everything else flows. */
  'PS-QUEUE-PARKED': found('look at it: possync queue ls --dead'),
  /** Sequence numbers are missing in the queue. */
  'PS-QUEUE-GAP': found('keep the database as it is and call support'),
  /** Changes of HQ have waited for long without being applied here. */
  'PS-DOWN-LAG': found('look for the reason: possync status'),
} as const;

const NETWORK_CODES = {
  /** No DNS server is configured. */
  'PS-DNS-NOSERVER': found("check the router's DHCP or /etc/resolv.conf"),
  /** The name exists but has no address. */
  'PS-DNS-NODATA': found('ask HQ for the right name: this one has no address'),
  /** The DNS server could not find out. */
  'PS-DNS-SERVFAIL': found('restart the router, or set another DNS server'),
  /** The DNS server refuses this store. */
  'PS-DNS-REFUSED': found('ask the network team to allow this store on its DNS server'),
  /** The DNS server does not answer. */
  'PS-DNS-TIMEOUT': found('restart the router, or set another DNS server'),
  /** Nothing listens for DNS at the configured server. */
  'PS-DNS-SERVER-DOWN': found('restart the router, or set another DNS server'),
  /** HQ has only an IPv6 address and this machine has none. */
  'PS-DNS-V6ONLY': found('ask HQ for an IPv4 address, or give this store IPv6'),
  /** /etc/hosts overrides the name of HQ. */
  'PS-DNS-HOSTS': found('remove the line from /etc/hosts unless it is meant'),
  /** DNS servers give different addresses. */
  'PS-DNS-SPLIT': found('ask the network team which of the two is right'),
  /** The name of HQ leads to an address that cannot be HQ: a filter answers. */
  'PS-DNS-BLOCKPAGE': found('ask the network team to take HQ off the DNS filter'),
  /** Lookups are slow. */
  'PS-DNS-SLOW': found('set a nearer DNS server'),
  /** This machine has no socket or port left. */
  'PS-TCP-LOCAL': found('restart this machine, or raise its limit of open files'),
  /** HQ is reached over one family of addresses only. */
  'PS-TCP-V6BROKEN': found('remove the AAAA record of HQ or repair IPv6'),
  /** HQ is far away. */
  'PS-TCP-SLOW': found('check the line; possync allows for the delay'),
  /** A transparent proxy answers in the name of HQ. */
  'PS-TCP-TRANSPARENT': found('ask for an exception for HQ if TLS or WebSocket fails below'),
  /** Connected, but no reply to the TLS greeting. */
  'PS-TLS-SILENT': found('look for lost large packets (path.mtu) or a proxy that holds the connection'),
  /** HQ and store have no cipher in common. */
  'PS-TLS-CIPHER': found('allow modern ciphers at HQ, or on the box between'),
  /** A security box replaces HQ's certificate with its own. */
  'PS-TLS-INSPECTED': found('ask for a bypass of TLS inspection for HQ, or set SYNC_TLS_CA_FILE to its CA'),
  /** HQ does not send its intermediate certificate. */
  'PS-TLS-NOINTERMEDIATE': found('set the certificate file of HQ to the full chain'),
  /** HQ's certificate expires soon. */
  'PS-TLS-EXPIRING': found('renew the certificate of HQ, then: kill -HUP (no store is dropped)'),
  /** HQ's key or signature is weak. */
  'PS-TLS-WEAK': found('give HQ a new certificate with a key of at least RSA 2048 or P-256'),
  /** HQ's certificate changed its authority or key since the last good run. */
  'PS-TLS-CHANGED': found('ask HQ whether it was renewed; if not, suspect interception'),
  /** The CA file cannot be used. */
  'PS-TLS-CAFILE': found('correct SYNC_TLS_CA_FILE: it must hold certificates (PEM)'),
  /** The server wants a client certificate. */
  'PS-TLS-CLIENTCERT': found('ask the network team for a way without client certificates'),
  /** The clock of this machine is wrong, and that is why TLS fails. */
  'PS-CLOCK-WRONG': found('correct the clock: sudo timedatectl set-ntp true'),
  /** The clock of this machine differs from HQ's: sales would carry wrong times. */
  'PS-CLOCK-SKEW': found('correct the clock: sudo timedatectl set-ntp true'),
  /** The network sends us to a login page. */
  'PS-HTTP-PORTAL': found('log in to the guest network, or use the network of the store'),
  /** No answer to an HTTP request. */
  'PS-HTTP-SILENT': found('look for a proxy that holds the connection; else look at the log of HQ'),
  /** A proxy is on the path. */
  'PS-HTTP-PROXIED': found('ask for an exception for HQ if WebSocket fails below'),
  /** Something other than HQ refuses the request. */
  'PS-HTTP-BLOCKED': found('ask the network team to take HQ off the web filter'),
  /** HQ is newer than this store. */
  'PS-VER-OLD': found('update possync on this store'),
  /** No credential in this store. */
  'PS-TOKEN-MISSING': found('enrol this store: possync store init --token-file FILE'),
  /** Other users can read the credential. */
  'PS-TOKEN-PERMS': found('take the right away: chmod 0600 FILE'),
  /** The credential expires soon. */
  'PS-TOKEN-EXPIRING': found('renew it: possync token rotate'),
  /** Somebody still uses a credential that was revoked, replaced or has expired. */
  'PS-TOKEN-REUSED': found('look for the machine that still uses it: an old server, a clone, or a thief'),
  /** A rotation was interrupted. */
  'PS-TOKEN-HALFWAY': found('finish it: possync token rotate'),
  /** The daemon still uses the old credential. */
  'PS-TOKEN-NOTLOADED': found('make it read the new one: sudo systemctl reload possync-store'),
  /** A proxy or firewall removes the WebSocket upgrade. */
  'PS-WS-STRIPPED': found('ask the network team to allow WebSocket to HQ'),
  /** A web filter refuses WebSocket. */
  'PS-WS-BLOCKED': found('ask the network team to allow WebSocket to HQ'),
  /** A load balancer answers that HQ is down. */
  'PS-WS-GATEWAY': found('ask HQ: its load balancer does not pass WebSocket on'),
  /** No answer to the WebSocket upgrade. */
  'PS-WS-NOANSWER': found('ask the network team to allow WebSocket to HQ: something holds the upgrade'),
  /** The connection is cut on the WebSocket upgrade. */
  'PS-WS-CUT': found('ask the network team to allow WebSocket to HQ: something cuts the upgrade'),
  /** Something rewrites WebSocket frames or headers. */
  'PS-WS-MANGLED': found('ask the network team for a bypass: something rewrites WebSocket traffic'),
  /** HQ, or a box between, does not know the test protocol. */
  'PS-WS-SUBPROTO': found('update possync at HQ, or look for a proxy that removes headers'),
  /** The WebSocket opens but no data passes. */
  'PS-WS-DEAD': found('ask the network team to allow WebSocket to HQ: frames are swallowed'),
  /** The WebSocket is cut soon after it opens. */
  'PS-WS-KILLED': found('ask the network team for a bypass: a firewall cuts WebSocket after opening'),
  /** The connection is cut after a time of silence. */
  'PS-WS-IDLE': found('raise the idle timeout on the path to 120 s or more'),
  /** Frames above a size are refused. */
  'PS-WS-TOOBIG': found('raise the frame limit of the proxy to 64 KiB or more'),
  /** Another machine is connected as this store. */
  'PS-WS-DUPLICATE': found('stop the clone, or give each store its own token'),
  /** HQ does not see the connection that the daemon holds. */
  'PS-VIEW-DIFFERS': found('restart the service: sudo systemctl restart possync-store'),
  /** Large packets are lost on the way. */
  'PS-PATH-MTU': found('ask the network team to clamp TCP MSS (1360) or allow ICMP "fragmentation needed"'),
  /** The line is slow. */
  'PS-PATH-SLOW': found('check what else uses the line'),
  /** Probes are lost. */
  'PS-PATH-LOSS': found('check the line: probes are lost'),
  /** The line carries little. */
  'PS-PATH-THIN': found('check what else uses the line'),
  /** A proxy collects replies before it passes them on. */
  'PS-PATH-BUFFERED': found('ask the network team to switch off buffering for HQ'),
} as const;

/** What the completeness ledger of HQ says of a store's numbers, sums and sessions (src/hq/ledger). */
const LEDGER_CODES = {
  /** An entry of a store was given up, or HQ lost what it had acknowledged: its sequence has a hole that is known. */
  'PS-LEDGER-GIVEN-UP': found('look at who gave it up and why: possync ledger CODE'),
  /** A sale arrived, or was voided, after the Z report of its session had counted: the sale is kept where it belongs, the Z no longer agrees. */
  'PS-LEDGER-LATE-SALE': found('ask the store which sale was made or voided after its Z report'),
  /** A store sent an older state of a record than HQ has, as a restored backup does; nothing was changed at HQ. */
  'PS-LEDGER-OLDER-STATE': found('ask whether the store was restored from a backup, and compare it with HQ'),
  /** A store has sold a product that is not in the catalogue of HQ. */
  'PS-LEDGER-PRODUCT-UNKNOWN': found(
    'check whether the product was deleted at HQ; the sale keeps what was sold',
  ),
  /** A receipt number was used more than once by one register. */
  'PS-LEDGER-RECEIPT-DOUBLE': found('ask the store whether its register or database was restored or cloned'),
  /** Receipt numbers of a register are missing at HQ. */
  'PS-LEDGER-RECEIPT-HOLE': found('look for a parked record first: possync queue ls --dead CODE'),
  /** A register numbers its receipts anew, leaps, or does not number them one after the other. */
  'PS-LEDGER-RECEIPT-SERIES': found('check that this is how the register is meant to number'),
  /** A user or a register has two open sessions. */
  'PS-LEDGER-SESSION-TWICE': found(
    'ask the stores which of the sessions is still in use, and close the other',
  ),
  /** Sales have arrived whose register session has not. */
  'PS-LEDGER-SESSION-UNKNOWN': found('look for a parked session: possync queue ls --dead CODE'),
  /** A Z report does not agree with the sales of its session, and nothing that could still arrive would change that. */
  'PS-LEDGER-Z-DIFFERS': found('look at what differs: possync ledger CODE'),
  /** Two Z reports have the same number at one register, or belong to the same session. */
  'PS-LEDGER-Z-DOUBLE': found('ask the store whether its database was restored from a backup or cloned'),
  /** Z numbers of a register are missing at HQ. */
  'PS-LEDGER-Z-HOLE': found('look for a parked Z report first: possync queue ls --dead CODE'),
  /** A Z report has arrived, but not all that it counts. */
  'PS-LEDGER-Z-PENDING': found(
    'wait while the store is sending; else look for parked records: possync queue ls --dead CODE',
  ),
  /** The first Z report that HQ has of a register is not number 1. */
  'PS-LEDGER-Z-START': found(
    'check whether the register was in use before possync; else look for the first ones',
  ),
  /** A ZZ report does not agree with the Z reports that it lists. */
  'PS-LEDGER-ZZ-DIFFERS': found('look at what differs: possync ledger CODE'),
  /** Two ZZ reports of a store have the same number or month, or list the same Z report. */
  'PS-LEDGER-ZZ-DOUBLE': found('ask the store which of the two reports counts'),
  /** ZZ numbers of a store are missing at HQ. */
  'PS-LEDGER-ZZ-HOLE': found('look for a parked ZZ report first: possync queue ls --dead CODE'),
  /** A ZZ report lists Z reports that have not arrived or are not complete. */
  'PS-LEDGER-ZZ-PENDING': found(
    'wait while the store is sending; else look for parked records: possync queue ls --dead CODE',
  ),
} as const;

export const FINDING_CODES = { ...LOCAL_CODES, ...NETWORK_CODES, ...LEDGER_CODES } as const;
