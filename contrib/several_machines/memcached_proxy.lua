-- memcached's own proxy (memcached 1.6.23 or later, built with --enable-proxy):
-- memcached -l 127.0.0.1:22121 -o proxy_config=routelib,proxy_arg=memcached_proxy.lua
-- The first part of a key, up to a slash, selects the route.
settings{
    backend_connect_timeout = 1,
    backend_read_timeout = 1,
    backend_failure_limit = 2,
    backend_retry_waittime = 2,
}

pools{
    -- Three servers that share the keys.
    ring = {
        backends = { "192.0.2.1:11211", "192.0.2.2:11211", "192.0.2.3:11211" },
    },
    -- Three zones with a copy each.
    set_copies = {
        { backends = { "192.0.2.1:11211" } },
        { backends = { "192.0.2.2:11211" } },
        { backends = { "192.0.2.3:11211" } },
    },
}

routes{
    map = {
        -- ring/…: each key on one server.
        ring = route_direct{ child = "ring" },
        -- copies/…: writes go to all servers, reads to the first that has the key.
        copies = cmdmap{
            get = route_failover{ children = "set_copies", miss = true },
            gets = route_failover{ children = "set_copies", miss = true },
            mg = route_failover{ children = "set_copies", miss = true },
            set = route_allsync{ children = "set_copies" },
            add = route_allsync{ children = "set_copies" },
            delete = route_allsync{ children = "set_copies" },
            touch = route_allsync{ children = "set_copies" },
            ms = route_allsync{ children = "set_copies" },
            md = route_allsync{ children = "set_copies" },
        },
    },
    default = route_direct{ child = "ring" },
}
