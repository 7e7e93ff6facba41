complete -c rustcached -s p -l port -d 'TCP port to listen on; 0 is off, -1 picks a free one [default: 11211]' -r
complete -c rustcached -s U -l udp-port -d 'UDP port to listen on; 0 is off, -1 picks a free one; not with authentication [default: 0]' -r
complete -c rustcached -l udp-reply-limit -d 'Longest answer over UDP, or with k or m behind the number; a longer one is not sent [default: 64k]' -r
complete -c rustcached -l client-memory-limit -d 'Memory for the buffers of all clients together; at the limit, the clients that hold most and have stalled longest are disconnected (default a quarter of -m, at least 64)' -r
complete -c rustcached -s s -l unix-socket -d 'Listen on this unix socket; TCP is then off unless -p or -l is given too' -r
complete -c rustcached -s a -l unix-mask -d 'Permissions of the unix socket, in octal [default: 700]' -r
complete -c rustcached -s l -l listen -d 'Address to listen on: host, host:port, [v6]:port, * or unix:/path; repeat it or separate several by commas. In front of one: proto[ascii]: sets its protocol; with -Z notls: leaves it in the clear, btls: asks its clients for no certificate, mtls: demands one; proxy: expects each connection to begin with a header of the PROXY protocol [default: *, all addresses]' -r
complete -c rustcached -l admin-listen -d 'Address, as for -l, on which operators find metrics, health checks and a live page over HTTP; port 9150 if none is given; repeat it or separate several by commas (default none)' -r
complete -c rustcached -l admin-host -d 'Name, besides IP addresses and localhost, under which the admin listener may be reached; repeat it for several' -r
complete -c rustcached -l slow-log-ms -d 'Keep the last commands that took at least this many milliseconds, fractions allowed, for "stats slowlog", "watch slow" and the admin page (default off)' -r
complete -c rustcached -s B -l protocol -d 'What clients may speak: ascii, binary or auto, which tells them by their first byte [default: auto]' -r
complete -c rustcached -s u -l user -d 'Become this user (when started as root)' -r
complete -c rustcached -s P -l pidfile -d 'Keep the process id in this file while running' -r
complete -c rustcached -s m -l memory-limit -d 'Memory for items in megabytes, everything that belongs to them included [default: 64]' -r
complete -c rustcached -s I -l max-item-size -d 'Largest item in bytes, or with k or m behind the number; 1k to 1024m [default: 1m]' -r
complete -c rustcached -s c -l conn-limit -d 'Most simultaneous connections [default: 1024]' -r
complete -c rustcached -s t -l threads -d 'Worker threads [default: 4]' -r
complete -c rustcached -s R -l max-reqs-per-event -d 'Batches of a busy connection that are served before others get their turn [default: 20]' -r
complete -c rustcached -s b -l listen-backlog -d 'Length of the queue of connections not yet accepted [default: 1024]' -r
complete -c rustcached -s D -l prefix-delimiter -d 'Character that ends the prefix of a key; also turns on "stats detail" [default: :]' -r
complete -c rustcached -l prefix-limit -d 'Memory that the items of a key prefix may take: a percentage of -m, such as user:=25%, or a number of megabytes; at the limit, items of the prefix are evicted for its new ones; repeat it for several, or separate them with commas' -r
complete -c rustcached -s f -l slab-growth-factor -d 'Growth factor of size classes; only reported [default: 1.25]' -r
complete -c rustcached -s n -l slab-min-size -d 'Smallest space for key, value and flags; only reported [default: 48]' -r
complete -c rustcached -s Y -l auth-file -d 'Let text clients speak only after a password: lines of user:password, read again on SIGHUP; without -S the only protocol is then text' -r
complete -c rustcached -l cluster-file -d 'Answer "config get cluster" of ElastiCache\'s clients from this file: a line with a version number, then servers as host|ip|port; read again when it changes and on SIGHUP' -r
complete -c rustcached -s e -l memory-file -d 'Keep the items in this file, on a file system in memory such as /dev/shm: a clean stop and the next start lose none' -r
complete -c rustcached -l save-path -d 'Write the items to this file at a clean stop, and read and remove it at the next start; for ordinary disks' -r
complete -c rustcached -l take-over -d 'Take over listeners and items from the server that runs with the same option, if there is one, and then wait at this unix socket for the next server to do the same' -r
complete -c rustcached -l restart-max-gap -d 'Start empty if the last server stopped longer ago: deletes were missed meanwhile (default: any time)' -r
complete -c rustcached -l drain-timeout -d 'At a stop, go on serving active connections for up to this time; idle ones are closed (default 0)' -r
complete -c rustcached -s o -l extended -d 'Extended options: words, separated by commas' -r
complete -c rustcached -l log-file -d 'Append log lines to this file instead of standard error; SIGHUP opens it anew' -r
complete -c rustcached -l log-format -d 'Format of log lines: text, or json with the members ts and message [default: text]' -r
complete -c rustcached -l config -d 'Read options from this file: one a line, by long names, or flags as in /etc/memcached.conf; the environment (RUSTCACHED_MEMORY_LIMIT) and the command line override it' -r
complete -c rustcached -s N -l napi-ids -d 'Accepted, without effect' -r
complete -c rustcached -l admin-auth -d 'Let only users of the file of -Y use the admin listener; health checks need no password'
complete -c rustcached -s A -l enable-shutdown -d 'Permit the "shutdown" command'
complete -c rustcached -s d -l daemon -d 'Detach and run in the background'
complete -c rustcached -s r -l enable-coredumps -d 'Raise the limit on core files as far as permitted'
complete -c rustcached -s k -l lock-memory -d 'Keep all memory out of swap'
complete -c rustcached -s M -l disable-evictions -d 'When memory is full answer errors instead of evicting'
complete -c rustcached -s C -l disable-cas -d 'Give items no CAS values'
complete -c rustcached -s L -l enable-largepages -d 'Accepted, without effect'
complete -c rustcached -s F -l disable-flush-all -d 'Refuse "flush_all", "invalidate" and "config set cluster"'
complete -c rustcached -s X -l disable-dumping -d 'Refuse commands that list keys'
complete -c rustcached -s W -l disable-watch -d 'Refuse the "watch" command'
complete -c rustcached -s S -l enable-sasl -d 'Let in only who authenticates by SASL (PLAIN, binary protocol; the only one without -Y); the users are in the file that MEMCACHED_SASL_PWDB names'
complete -c rustcached -s Z -l enable-ssl -d 'Speak TLS; needs -o ssl_chain_cert and ssl_key'
complete -c rustcached -l check-config -d 'Check all options and the files that they name, and exit'
complete -c rustcached -s h -l help -d 'Print the most used options; --help all prints every option'
complete -c rustcached -s i -l license -d 'Print the licence'
complete -c rustcached -s V -l version -d 'Print the version'
complete -c rustcached -s v -l verbose -d 'Log errors and warnings; -vv also commands and answers, -vvv also what each connection does next'
