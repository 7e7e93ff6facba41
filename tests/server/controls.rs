//! Administrative commands: every form of `lru`, `slabs`, `extstore`,
//! `verbosity` and `cache_memlimit`, with memcached's replies, and the
//! resulting values in `stats settings`.

use test_support::binary::BinaryClient;
use test_support::client::Client;
use test_support::memcached::Memcached;
use test_support::program::Program;
use test_support::server::Server;

/// Commands that are sent to both servers. Replies and settings must agree.
const FORMS: &[&str] = &[
    "lru",
    "lru nonsense",
    "lru mode",
    "lru mode nonsense",
    "lru mode segmented",
    "lru mode flat",
    "lru temp_ttl",
    "lru temp_ttl x",
    "lru temp_ttl 99",
    "lru temp_ttl -1",
    "lru temp_ttl 77",
    "lru tune",
    "lru tune 10 20 0.1",
    "lru tune x 20 0.1 2.0",
    "lru tune 50 50 0.1 2.0",
    "lru tune 10 20 0 2.0",
    "lru tune 10 25 0.1 2.5",
    "slabs",
    "slabs nonsense",
    "slabs automove",
    "slabs automove 3",
    "slabs automove x",
    "slabs automove 2",
    "slabs automove 0",
    "slabs automove ratio",
    "slabs automove ratio x",
    "slabs automove ratio 0.5",
    "slabs reassign",
    "slabs reassign 1",
    "slabs reassign x 1",
    "slabs reassign 1 1",
    "slabs reassign 1 99",
    "slabs reassign 99 1",
    "slabs reassign 5 6",
    "extstore",
    "extstore nonsense",
    "extstore item_size",
    "extstore item_size x",
    "extstore item_size 512",
    "extstore max_frag 0.8",
    "extstore drop_unread 1",
    "verbosity",
    "verbosity x",
    "verbosity 0",
    "cache_memlimit",
    "cache_memlimit x",
    "cache_memlimit 1",
    "cache_memlimit 2000000000",
    "cache_memlimit 128",
];

/// Commands with a different reply in 1.6.18.
const OLDER_ANSWERS: &[&str] = &["verbosity", "lru temp_ttl", "verbosity x"];

/// Settings that these commands change, in both servers.
const SETTINGS: &[&str] = &[
    "maxbytes",
    "verbosity",
    "slab_automove",
    "slab_automove_ratio",
    "lru_segmented",
    "hot_lru_pct",
    "warm_lru_pct",
    "hot_max_factor",
    "warm_max_factor",
    "temp_lru",
    "temporary_ttl",
];

fn settings(client: &mut Client) -> Vec<String> {
    let answer = String::from_utf8(client.answer("stats settings\r\n")).expect("text");
    let line_of = |name: &&str| {
        let begin = format!("STAT {name} ");
        let mut lines = answer.lines();
        let line = lines.find(|line| line.starts_with(&begin));
        line.unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    SETTINGS.iter().map(line_of).collect()
}

#[test]
fn every_form_is_answered_and_remembered_as_by_memcached() {
    let Some(memcached) = Memcached::start_or_skip(&["-o", "slab_reassign"]) else {
        return;
    };
    let server = Server::start();
    let (mut ours, mut theirs) = (server.client(), Client::connect(&memcached.address()));
    for form in FORMS.iter().filter(|form| !OLDER_ANSWERS.contains(form)) {
        let command = format!("{form}\r\n");
        let want = String::from_utf8_lossy(&theirs.answer(&command)).into_owned();
        let got = String::from_utf8_lossy(&ours.answer(&command)).into_owned();
        assert_eq!(got, want, "{form}");
    }
    assert_eq!(settings(&mut ours), settings(&mut theirs));
}

#[test]
fn the_log_tells_commands_with_their_keys_escaped() {
    let (mut program, address) = Program::start(&["-vv"]);
    let mut client = Client::connect(&address);
    client.answer(b"get a\x1b[2Jb\r\n");
    client.send("quit\r\n");
    client.expect_closed("");
    program.assert_answers(&address);
    program.signal("TERM");
    let errors = program.wait().errors;
    assert!(
        errors.contains("new client connection from 127.0.0.1:"),
        "{errors}"
    );
    assert!(errors.contains(r" get a\x1b[2Jb"), "{errors}");
    assert!(errors.contains("connection closed (normal)"), "{errors}");
    assert!(!errors.contains('\x1b'));
}

#[test]
fn each_level_tells_more() {
    let told = |level: &str| {
        let (program, address) = Program::start(&[level]);
        let mut client = Client::connect(&address);
        client.answer("set key 0 0 6\r\nsecret\r\nget key\r\nstats items \r\nlru mode flat\r\n");
        BinaryClient::connect(&address).in_step();
        program.signal("TERM");
        program.wait().errors
    };
    let (second, third) = (told("-vv"), told("-vvv"));
    for (errors, states) in [(&second, false), (&third, true)] {
        for line in [
            " store key",
            " STORED",
            " get key",
            " VALUE key 0 6",
            " stats items",
            " STAT items:",
            " lru mode flat",
            " OK",
            " packet 0x0a status 0",
        ] {
            assert!(errors.contains(line), "{line}: {errors}");
        }
        assert_eq!(errors.contains(" waits for input"), states, "{errors}");
        assert!(!errors.contains("secret"), "{errors}");
    }
}

#[test]
fn words_of_the_command_line_are_told_by_settings() {
    let words = "hot_lru_pct=11,warm_lru_pct=22,hot_max_factor=0.33,warm_max_factor=4.4,\
                 temporary_ttl=55,slab_automove=2,slab_automove_ratio=0.66,\
                 lru_crawler_sleep=77,lru_crawler_tocrawl=88,slab_automove_window=99";
    let (_program, address) = Program::start(&["-o", words]);
    let mut ours = Client::connect(&address);
    let told = |client: &mut Client| {
        let answer = String::from_utf8(client.answer("stats settings\r\n")).expect("text");
        let names = words.split(',').map(|word| {
            let name = word.split('=').next().expect("a name").trim();
            format!("STAT {name} ")
        });
        let begins: Vec<String> = names.collect();
        let lines = answer.lines().map(str::to_owned);
        let is_told = |line: &String| begins.iter().any(|begin| line.starts_with(begin));
        lines.filter(is_told).collect::<Vec<_>>()
    };
    let lines = told(&mut ours);
    assert_eq!(lines.len(), 10, "{lines:?}");
    assert!(
        lines.contains(&"STAT hot_max_factor 0.33".to_owned()),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"STAT lru_crawler_tocrawl 88".to_owned()),
        "{lines:?}"
    );
    if let Some(memcached) = Memcached::start_or_skip(&["-o", words]) {
        assert_eq!(lines, told(&mut Client::connect(&memcached.address())));
    }
    let (_program, address) = Program::start(&["-o", "no_lru_crawler"]);
    let mut client = Client::connect(&address);
    client.ask(
        "lru_crawler metadump all\r\n",
        "CLIENT_ERROR lru crawler disabled\r\n",
    );
}

#[test]
fn refusals_are_logged_from_the_first_level_on() {
    for (level, told) in [("-v", true), ("-t1", false)] {
        let (program, address) = Program::start(&["-c", "2", level]);
        let mut client = Client::connect(&address);
        client.answer("");
        let mut other = Client::connect(&address);
        other.answer("");
        Client::connect(&address).expect_closed("ERROR Too many open connections\r\n");
        program.signal("TERM");
        let errors = program.wait().errors;
        assert_eq!(errors.contains("refused a connection"), told, "{errors}");
    }
}
