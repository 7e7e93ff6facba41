//! Meta protocol, command by command and flag by flag: the replies of memcached
//! 1.6.45, byte for byte, however the stream is cut.

use test_support::script::check;
use test_support::server::Server;

const BAD: &str = "CLIENT_ERROR bad command line format\r\n";
const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format\r\n";
const BAD_FLAG: &str = "CLIENT_ERROR invalid flag\r\n";
const TWICE: &str = "CLIENT_ERROR duplicate flag\r\n";
const TOO_MANY: &str = "CLIENT_ERROR options flags are too long\r\n";
const OPAQUE_TOO_LONG: &str = "CLIENT_ERROR opaque token too long\r\n";
/// Reply of `ma` to any bad flag.
const MA_BAD: &str = "CLIENT_ERROR invalid or duplicate flag\r\n";

#[test]
fn mn() {
    let server = Server::start();
    let mut client = server.client();
    client.send("mn\r\nmn and more\r\nmn \n");
    client.expect("MN\r\nMN\r\nMN\r\n");
}

#[test]
fn ms_and_mg() {
    check(&[
        ("mg k v\r\n", "EN\r\n"),
        ("ms k 2\r\nhi\r\n", "HD\r\n"),
        ("mg k\r\n", "HD\r\n"),
        ("mg k v\r\n", "VA 2\r\nhi\r\n"),
        ("mg k s v f\r\n", "VA 2 s2 f0\r\nhi\r\n"),
        ("ms k 3 F12 T100\r\nabc\r\n", "HD\r\n"),
        (
            "mg k f s t k v\r\n",
            "VA 3 f12 s3 t<100|99|98> kk\r\nabc\r\n",
        ),
        (
            "mg k v k t s f\r\n",
            "VA 3 kk t<100|99|98> s3 f12\r\nabc\r\n",
        ),
        ("ms k 0\r\n\r\n", "HD\r\n"),
        ("mg k v t\r\n", "VA 0 t-1\r\n\r\n"),
        ("ms k 7\r\na\r\nb\r\nc\r\n", "HD\r\n"),
        ("mg  k   v  \r\n", "VA 7\r\na\r\nb\r\nc\r\n"),
        ("get k\r\n", "VALUE k 0 7\r\na\r\nb\r\nc\r\nEND\r\n"),
    ]);
}

#[test]
fn opaque_and_key_come_back_in_the_order_sent() {
    check(&[
        ("mg k k O1\r\n", "EN kk O1\r\n"),
        ("mg k O1 k v\r\n", "EN O1 kk\r\n"),
        ("ms k 1 Oabc k\r\na\r\n", "HD Oabc kk\r\n"),
        ("ms k 1 k Oabc\r\na\r\n", "HD kk Oabc\r\n"),
        ("mg k v Oxyz k s\r\n", "VA 1 Oxyz kk s1\r\na\r\n"),
        ("mg k s k Oxyz\r\n", "HD s1 kk Oxyz\r\n"),
        ("md k k O9\r\n", "HD kk O9\r\n"),
        ("md k O9 k\r\n", "NF O9 kk\r\n"),
        ("ma k O7 k\r\n", "NF O7 kk\r\n"),
        ("ma k N0 O7 k v\r\n", "VA 1 O7 kk\r\n0\r\n"),
        ("ma k k v O7\r\n", "VA 1 kk O7\r\n1\r\n"),
        ("mg k O\r\n", "HD O\r\n"),
    ]);
}

#[test]
fn opaque_tokens_have_a_longest_length() {
    let longest = format!("O{}", "x".repeat(31));
    let longer = format!("O{}", "x".repeat(32));
    check(&[
        ("ms k 1\r\na\r\n", "HD\r\n"),
        (&format!("mg k {longest}\r\n"), &format!("HD {longest}\r\n")),
        (&format!("mg k {longer}\r\n"), OPAQUE_TOO_LONG),
        (&format!("mg none {longer}\r\n"), OPAQUE_TOO_LONG),
        (&format!("mg k {longer} q\r\n"), OPAQUE_TOO_LONG),
        (&format!("md k {longer}\r\n"), OPAQUE_TOO_LONG),
        (&format!("ma k {longer}\r\n"), "CLIENT_ERROR <*>\r\n"),
        (&format!("ms k 1 {longer}\r\nb\r\n"), OPAQUE_TOO_LONG),
        (&format!("ms k 1 {longer} q\r\nb\r\n"), OPAQUE_TOO_LONG),
        ("mg k v\r\n", "VA 1\r\na\r\n"),
        (
            &format!("ms k 1 {longest}\r\nb\r\n"),
            &format!("HD {longest}\r\n"),
        ),
    ]);
}

#[test]
fn quiet_mode_keeps_silent_about_the_usual() {
    check(&[
        ("mg k v q\r\n", ""),
        ("mg k q k O1\r\n", ""),
        ("ms k 1 q\r\na\r\n", ""),
        ("mg k v q\r\n", "VA 1\r\na\r\n"),
        ("mg k q\r\n", "HD\r\n"),
        ("ms k 1 ME q\r\nb\r\n", "NS\r\n"),
        ("ms k 1 C999 q\r\nb\r\n", "EX\r\n"),
        ("ms none 1 MR q\r\nb\r\n", "NS\r\n"),
        ("ms none 1 C1 q\r\nb\r\n", "NF\r\n"),
        ("md k C999 q\r\n", "EX\r\n"),
        ("md k q\r\n", ""),
        ("md k q\r\n", "NF\r\n"),
        ("ma k q\r\n", "NF\r\n"),
        ("ma k N0 q\r\n", ""),
        ("ma k q\r\n", ""),
        ("ma k q v\r\n", ""),
        ("ma k v\r\n", "VA 1\r\n3\r\n"),
        ("ma k C999 q\r\n", "EX\r\n"),
        ("ms k 1 S9 q\r\nx\r\n", BAD_FLAG),
        ("mg k S9 q\r\n", BAD_FLAG),
        (
            "ms k 1 q\r\nabcdefgh\r\n",
            "CLIENT_ERROR bad data chunk\r\nERROR\r\n",
        ),
    ]);
}

#[test]
fn base64_keys() {
    check(&[
        ("ms Zm9v 3 b\r\nbar\r\n", "HD\r\n"),
        ("mg foo v\r\n", "VA 3\r\nbar\r\n"),
        ("mg Zm9v b v k\r\n", "VA 3 kZm9v b\r\nbar\r\n"),
        ("mg Zm9v k v\r\n", "EN kZm9v\r\n"),
        ("mg YmFy b k O1\r\n", "EN kYmFy b O1\r\n"),
        ("ms YQBi 1 b k\r\nx\r\n", "HD kYQBi b\r\n"),
        ("mg YQBi b k v\r\n", "VA 1 kYQBi b\r\nx\r\n"),
        ("ma YQBj b N0 k v\r\n", "VA 1 kYQBj b\r\n0\r\n"),
        ("md YQBi b k\r\n", "HD kYQBi b\r\n"),
        ("md YQBi b k\r\n", "NF kYQBi b\r\n"),
        ("me YQBj b\r\n", "<*>\r\n"),
        ("mg !!!! b\r\n", "CLIENT_ERROR error decoding key\r\n"),
        ("mg a b\r\n", "CLIENT_ERROR error decoding key\r\n"),
        ("ms a 1 b\r\nx\r\n", "CLIENT_ERROR error decoding key\r\n"),
        ("md a b\r\n", "CLIENT_ERROR error decoding key\r\n"),
        ("ma a b\r\n", MA_BAD),
        ("ms Zm9v 1 b\r\nx\r\nmg foo v\r\n", "HD\r\nVA 1\r\nx\r\n"),
    ]);
}

#[test]
fn a_base64_key_may_hold_any_bytes() {
    let server = Server::start();
    let mut client = server.client();
    // "a b\r\n" contains the bytes that end keys and lines.
    client.ask("ms YSBiDQo= 2 b\r\nhi\r\n", "HD\r\n");
    client.ask("mg YSBiDQo= b v k\r\n", "VA 2 kYSBiDQo= b\r\nhi\r\n");
    client.ask("get a\r\n", "END\r\n");
}

#[test]
fn ms_modes() {
    check(&[
        ("ms k 1 MR\r\na\r\n", "NS\r\n"),
        ("ms k 1 MA\r\na\r\n", "NS\r\n"),
        ("ms k 1 MP\r\na\r\n", "NS\r\n"),
        ("ms k 1 ME\r\na\r\n", "HD\r\n"),
        ("ms k 1 ME\r\nb\r\n", "NS\r\n"),
        ("ms k 1 MR\r\nc\r\n", "HD\r\n"),
        ("ms k 2 MA\r\nde\r\n", "HD\r\n"),
        ("ms k 2 MP\r\nab\r\n", "HD\r\n"),
        ("mg k v\r\n", "VA 5\r\nabcde\r\n"),
        ("ms k 1 MS\r\nz\r\n", "HD\r\n"),
        ("mg k v\r\n", "VA 1\r\nz\r\n"),
        ("ms k 1 MSET\r\ny\r\n", "HD\r\n"),
        // A zero byte is no mode.
        ("ms z 2 M\0\r\nhi\r\n", "HD\r\n"),
        (
            "ms k 1 Mx\r\ny\r\n",
            "CLIENT_ERROR invalid mode for ms M token\r\n",
        ),
        (
            "ms k 1 Me\r\ny\r\n",
            "CLIENT_ERROR invalid mode for ms M token\r\n",
        ),
        (
            "ms k 1 M\r\ny\r\n",
            "CLIENT_ERROR invalid mode for ms M token\r\n",
        ),
        ("mg k v\r\n", "VA 1\r\ny\r\n"),
    ]);
}

#[test]
fn append_that_creates_and_the_size_it_reached() {
    check(&[
        ("ms k 2 MA N100 s\r\nab\r\n", "HD s2\r\n"),
        ("mg k v t\r\n", "VA 2 t<100|99|98>\r\nab\r\n"),
        ("ms k 2 MA N5 s\r\ncd\r\n", "HD s4\r\n"),
        ("mg k v t\r\n", "VA 4 t<100|99|98>\r\nabcd\r\n"),
        ("ms l 1 MP N0 s k\r\nx\r\n", "HD s1 kl\r\n"),
        ("ms l 1 s MP\r\ny\r\n", "HD s2\r\n"),
        ("mg l v t\r\n", "VA 2 t-1\r\nyx\r\n"),
        ("ms m 5 s\r\nhello\r\n", "HD s5\r\n"),
        ("ms m 0 MA s\r\n\r\n", "HD s5\r\n"),
    ]);
}

#[test]
fn ms_with_a_cas_to_compare() {
    check(&[
        ("ms k 1 C1\r\na\r\n", "NF\r\n"),
        ("ms k 1 c\r\na\r\n", "HD c<one>\r\n"),
        ("mg k c\r\n", "HD c<one>\r\n"),
        ("ms k 1 C<one> c\r\nb\r\n", "HD c<two>\r\n"),
        ("ms k 1 C<one>\r\nc\r\n", "EX\r\n"),
        ("ms k 1 C0\r\nc\r\n", "EX\r\n"),
        ("ms k 1 MR C<one>\r\nc\r\n", "EX\r\n"),
        ("ms k 1 MA C<one>\r\nc\r\n", "EX\r\n"),
        ("ms k 1 MA C<two>\r\nc\r\n", "HD\r\n"),
        ("mg k v c\r\n", "VA 2 c<three>\r\nbc\r\n"),
        ("ms k 1 MR C<three>\r\nd\r\n", "HD\r\n"),
        ("ms k 1 ME C1\r\ne\r\n", "NS\r\n"),
        ("mg k v\r\n", "VA 1\r\nd\r\n"),
    ]);
}

#[test]
fn a_cas_chosen_by_the_client() {
    check(&[
        ("ms k 1 E1000\r\na\r\n", "HD\r\n"),
        ("mg k c\r\n", "HD c1000\r\n"),
        ("ms k 1 C1000 E2000 c\r\nb\r\n", "HD c2000\r\n"),
        ("ms k 1 C1000 E3000\r\nc\r\n", "EX\r\n"),
        ("gets k\r\n", "VALUE k 0 1 2000\r\nb\r\nEND\r\n"),
        ("cas k 0 0 1 2000\r\n5\r\n", "STORED\r\n"),
        ("ma k E77 c\r\n", "HD c77\r\n"),
        ("mg k c v\r\n", "VA 1 c77\r\n6\r\n"),
        ("md k I E88\r\n", "HD\r\n"),
        ("mg k c\r\n", "HD c88 X W\r\n"),
        ("mg new N30 E99 c\r\n", "HD c99 W\r\n"),
        ("ma count N0 E11 c\r\n", "HD c11\r\n"),
        ("mg count c\r\n", "HD c11\r\n"),
        ("ms app 1 MA N0 E12 c\r\na\r\n", "HD c12\r\n"),
    ]);
}

#[test]
fn mg_sends_a_value_only_if_its_cas_differs() {
    check(&[
        ("mg k C1 v\r\n", "EN\r\n"),
        ("ms k 1 E500\r\na\r\n", "HD\r\n"),
        ("mg k C500 v\r\n", "HD\r\n"),
        ("mg k C499 v\r\n", "VA 1\r\na\r\n"),
        ("mg k v C500 c k\r\n", "HD c500 kk\r\n"),
        ("mg k v C501 c k\r\n", "VA 1 c500 kk\r\na\r\n"),
        ("mg k C500\r\n", "HD\r\n"),
        ("mg k C501\r\n", "HD\r\n"),
    ]);
}

#[test]
fn md() {
    check(&[
        ("md k\r\n", "NF\r\n"),
        ("ms k 1 c\r\na\r\n", "HD c<one>\r\n"),
        ("md k C999\r\n", "EX\r\n"),
        ("ms k 1 c\r\na\r\n", "HD c<two>\r\n"),
        ("md k C<one>\r\n", "EX\r\n"),
        ("md k C<two>\r\n", "HD\r\n"),
        ("mg k\r\n", "EN\r\n"),
        ("ms k 1\r\na\r\n", "HD\r\n"),
        ("md k k O1\r\n", "HD kk O1\r\n"),
    ]);
}

#[test]
fn md_drops_the_value_and_keeps_the_item() {
    check(&[
        ("md k x\r\n", "NF\r\n"),
        ("ms k 3 F5 E100\r\nabc\r\n", "HD\r\n"),
        ("md k x\r\n", "HD\r\n"),
        ("mg k v f s c\r\n", "VA 0 f0 s0 c100\r\n\r\n"),
        ("ms k 3 F5\r\nabc\r\n", "HD\r\n"),
        ("md k x E7\r\n", "HD\r\n"),
        ("mg k v f c\r\n", "VA 0 f0 c7\r\n\r\n"),
        ("ms k 3 F5\r\nabc\r\n", "HD\r\n"),
        ("md k x I T30 q\r\n", ""),
        ("mg k v f t\r\n", "VA 0 f0 t<30|29|28> X W\r\n\r\n"),
        ("mg k v\r\n", "VA 0 Z X\r\n\r\n"),
        ("get k\r\n", "VALUE k 0 0\r\n\r\nEND\r\n"),
        ("ms k 3 E9\r\nabc\r\n", "HD\r\n"),
        ("md k x C8\r\n", "EX\r\n"),
        ("mg k v\r\n", "VA 3\r\nabc\r\n"),
    ]);
}

#[test]
fn ma_modes_and_deltas() {
    check(&[
        ("ma n\r\n", "NF\r\n"),
        ("ms n 2\r\n10\r\n", "HD\r\n"),
        ("ma n\r\n", "HD\r\n"),
        ("ma n v\r\n", "VA 2\r\n12\r\n"),
        ("ma n v D10\r\n", "VA 2\r\n22\r\n"),
        ("ma n v MI D1\r\n", "VA 2\r\n23\r\n"),
        ("ma n v M+ D1\r\n", "VA 2\r\n24\r\n"),
        ("ma n v MD D4\r\n", "VA 2\r\n20\r\n"),
        ("ma n v M- D15\r\n", "VA 1\r\n5\r\n"),
        ("mg n v s\r\n", "VA 2 s2\r\n5 \r\n"),
        ("ma n v MD D6\r\n", "VA 1\r\n0\r\n"),
        (
            "ma n v D18446744073709551615\r\n",
            "VA 20\r\n18446744073709551615\r\n",
        ),
        ("ma n v\r\n", "VA 1\r\n0\r\n"),
        ("ma missing M\0\r\n", "NF\r\n"),
        (
            "ma n v Mx\r\n",
            "CLIENT_ERROR invalid mode for ma M token\r\n",
        ),
        (
            "ma n v Mi\r\n",
            "CLIENT_ERROR invalid mode for ma M token\r\n",
        ),
        ("ma n D-1\r\n", MA_BAD),
        ("ma n Dx\r\n", MA_BAD),
        ("ms n 3\r\nabc\r\n", "HD\r\n"),
        (
            "ma n\r\n",
            "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
        ),
        (
            "ma n q\r\n",
            "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
        ),
    ]);
}

#[test]
fn ma_creates_on_a_miss() {
    check(&[
        ("ma n N0 J13 v\r\n", "VA 2\r\n13\r\n"),
        ("ma n N0 J13 v\r\n", "VA 2\r\n14\r\n"),
        ("mg n t\r\n", "HD t-1\r\n"),
        ("ma m N90 v t\r\n", "VA 1 t<90|89|88>\r\n0\r\n"),
        ("ma m v t\r\n", "VA 1 t<90|89|88>\r\n1\r\n"),
        ("ma m T300 v t\r\n", "VA 1 t<300|299|298>\r\n2\r\n"),
        (
            "ma o N0 J18446744073709551615 v MD\r\n",
            "VA 20\r\n18446744073709551615\r\n",
        ),
        ("ma p J5\r\n", "NF\r\n"),
        ("ma p N0 Jx\r\n", MA_BAD),
        ("ma p Nx\r\n", MA_BAD),
        ("mg p\r\n", "EN\r\n"),
    ]);
}

#[test]
fn ma_with_a_cas_to_compare() {
    check(&[
        ("ms n 1 E5\r\n1\r\n", "HD\r\n"),
        ("ma n C4 v\r\n", "EX\r\n"),
        ("ma n C4 k O1\r\n", "EX kn O1\r\n"),
        ("ma n C5 v c\r\n", "VA 1 c<next>\r\n2\r\n"),
        ("ma n C5\r\n", "EX\r\n"),
        ("mg n v c\r\n", "VA 1 c<next>\r\n2\r\n"),
    ]);
}

#[test]
fn hit_before_and_no_update() {
    check(&[
        ("ms k 1\r\na\r\n", "HD\r\n"),
        ("mg k h\r\n", "HD h0\r\n"),
        ("mg k h\r\n", "HD h1\r\n"),
        ("ms k 1\r\na\r\n", "HD\r\n"),
        ("mg k h u\r\n", "HD h0\r\n"),
        ("mg k h v u\r\n", "VA 1 h0\r\na\r\n"),
        ("mg k v\r\n", "VA 1\r\na\r\n"),
        ("mg k h l u\r\n", "HD h1 l<0|1>\r\n"),
        (
            "ms l 1\r\na\r\nget l\r\nmg l h\r\n",
            "HD\r\nVALUE l 0 1\r\na\r\nEND\r\nHD h1\r\n",
        ),
    ]);
}

#[test]
fn mg_touches() {
    check(&[
        ("mg k T30\r\n", "EN\r\n"),
        ("ms k 1\r\na\r\n", "HD\r\n"),
        ("mg k t T30\r\n", "HD t-1\r\n"),
        ("mg k t\r\n", "HD t<30|29|28>\r\n"),
        ("mg k T90 t v\r\n", "VA 1 t<90|89|88>\r\na\r\n"),
        ("mg k T0 t\r\n", "HD t-1\r\n"),
        ("mg k T-1\r\n", "HD\r\n"),
        ("mg k\r\n", "EN\r\n"),
    ]);
}

#[test]
fn me() {
    check(&[
        ("me k\r\n", "EN\r\n"),
        ("me\r\n", BAD),
        ("ms k 1\r\na\r\n", "HD\r\n"),
        (
            "me k\r\n",
            "ME k exp=-1 la=<0|1> cas=<cas> fetch=no cls=<class> size=<size>\r\n",
        ),
        ("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n"),
        (
            "me k\r\n",
            "ME k exp=-1 la=<0|1> cas=<cas> fetch=yes cls=<class> size=<size>\r\n",
        ),
        (&format!("me {}\r\n", "k".repeat(251)), BAD),
    ]);
}

#[test]
fn bad_meta_lines() {
    let many = " k".repeat(19);
    check(&[
        ("mg\r\n", BAD),
        ("mg \r\n", BAD),
        ("md\r\n", BAD),
        ("ma\r\n", BAD),
        ("ms\r\n", BAD),
        ("ms k\r\n", BAD),
        ("ms k x\r\n", BAD),
        ("ms k -1\r\n", BAD),
        ("ms k S1\r\n", BAD),
        ("ms k 2147483647\r\n", BAD),
        ("mg k !\r\n", BAD),
        ("mg k 1\r\n", BAD_FLAG),
        ("mg k y\r\n", BAD_FLAG),
        ("mg k v v\r\n", TWICE),
        ("mg k vs vt\r\n", TWICE),
        ("mg k O1 O2\r\n", TWICE),
        (&format!("mg k{many}\r\n"), TOO_MANY),
        (&format!("mg {} v\r\n", "k".repeat(251)), BAD),
        (&format!("md {}\r\n", "k".repeat(251)), BAD),
        (&format!("ma {}\r\n", "k".repeat(251)), MA_BAD),
        (&format!("ms {} 1\r\na\r\n", "k".repeat(251)), BAD),
        ("ma k q q\r\n", MA_BAD),
        ("ma k y\r\n", MA_BAD),
        ("md k v v\r\n", TWICE),
    ]);
}

#[test]
fn bad_tokens() {
    check(&[
        ("mg k N\r\n", BAD_TOKEN),
        ("mg k Nx\r\n", BAD_TOKEN),
        ("mg k T\r\n", BAD_TOKEN),
        ("mg k Tx v\r\n", BAD_TOKEN),
        ("mg k R\r\n", BAD_TOKEN),
        ("mg k Rx\r\n", BAD_TOKEN),
        ("mg k C\r\n", BAD_TOKEN),
        ("mg k Cx\r\n", BAD_TOKEN),
        ("mg k E\r\n", BAD_TOKEN),
        ("mg k C18446744073709551616\r\n", BAD_TOKEN),
        ("md k C\r\n", BAD_TOKEN),
        ("md k Tx\r\n", BAD_TOKEN),
        ("ma k C\r\n", MA_BAD),
        ("ma k N\r\n", MA_BAD),
    ]);
}

#[test]
fn a_bad_ms_swallows_its_data_block() {
    check(&[
        ("ms k 1\r\na\r\n", "HD\r\n"),
        ("ms k 6 Tx\r\nmg k v\r\n", BAD_TOKEN),
        ("ms k 6 T\r\nmg k v\r\n", BAD_TOKEN),
        ("ms k 6 Cx\r\nmg k v\r\n", BAD_TOKEN),
        ("ms k 6 E\r\nmg k v\r\n", BAD_TOKEN),
        ("ms k 6 Fx\r\nmg k v\r\n", BAD),
        ("ms k 6 F4294967296\r\nmg k v\r\n", BAD),
        ("ms k 6 y\r\nmg k v\r\n", BAD_FLAG),
        ("ms k 6 q q\r\nmg k v\r\n", TWICE),
        (
            "ms k 6 Mq\r\nmg k v\r\n",
            "CLIENT_ERROR invalid mode for ms M token\r\n",
        ),
        ("mg k v\r\n", "VA 1\r\na\r\n"),
    ]);
}

#[test]
fn an_ms_that_is_too_large() {
    let server = Server::start();
    let mut client = server.client();
    let large = "x".repeat(1024 * 1024 + 1);
    for flags in ["", " q", " T10 F3 O1", " MA", " ME", " MR"] {
        client.ask("ms k 1\r\na\r\n", "HD\r\n");
        client.ask(
            format!("ms k {}{flags}\r\n{large}\r\n", large.len()),
            "SERVER_ERROR object too large for cache\r\n",
        );
        client.ask("mg k v\r\n", "EN\r\n");
    }
}

#[test]
fn a_pipeline_of_quiet_gets_ends_with_mn() {
    let server = Server::start();
    let mut client = server.client();
    let mut send = String::new();
    let mut want = String::new();
    for number in 0..500 {
        if number % 7 == 0 {
            send.push_str(&format!("ms k{number} 3 q\r\n{number:03}\r\n"));
            want.push_str(&format!("VA 3 O{number} kk{number}\r\n{number:03}\r\n"));
        }
        send.push_str(&format!("mg k{number} v q O{number} k\r\n"));
    }
    client.ask(send, want);
}

#[test]
fn a_large_value_that_is_not_stored_returns_its_length() {
    let server = Server::start();
    let mut client = server.client();
    client.ask("set k 0 0 1\r\na\r\n", "STORED\r\n");
    for len in [10, 200_000] {
        let value = "x".repeat(len);
        client.send(format!("ms k {len} ME s O1\r\n"));
        client.ask(format!("{value}\r\n"), format!("NS s{len} O1\r\n"));
        client.send(format!("ms k {len} C1 s\r\n"));
        client.ask(format!("{value}\r\n"), format!("EX s{len}\r\n"));
    }
}
