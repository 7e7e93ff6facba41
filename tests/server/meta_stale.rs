//! Stale values in the meta protocol: the client that wins the right to refill
//! an item (`W`), clients that see that another has won (`Z`), and items marked
//! as stale (`X`).

use test_support::script::check;

#[test]
fn the_first_to_miss_wins() {
    check(&[
        ("mg k v c N30 t\r\n", "VA 0 c<new> t<30|29|28> W\r\n\r\n"),
        ("mg k v c N30\r\n", "VA 0 c<new> Z\r\n\r\n"),
        ("mg k v N30\r\n", "VA 0 Z\r\n\r\n"),
        ("ms k 2 T300 C<new>\r\nhi\r\n", "HD\r\n"),
        ("mg k v N30 t\r\n", "VA 2 t<300|299|298>\r\nhi\r\n"),
    ]);
}

#[test]
fn an_autovivified_item_needs_no_value_flag() {
    check(&[
        ("mg k N30\r\n", "HD W\r\n"),
        ("mg k\r\n", "HD Z\r\n"),
        ("mg k q N30 k O5\r\n", "HD kk O5 Z\r\n"),
        ("get k\r\n", "VALUE k 0 0\r\n\r\nEND\r\n"),
    ]);
}

#[test]
fn one_client_recaches_before_the_end() {
    check(&[
        ("ms k 1 T20\r\na\r\n", "HD\r\n"),
        ("mg k v R10\r\n", "VA 1\r\na\r\n"),
        ("mg k v R30\r\n", "VA 1 W\r\na\r\n"),
        ("mg k v R30\r\n", "VA 1 Z\r\na\r\n"),
        ("mg k v\r\n", "VA 1 Z\r\na\r\n"),
        ("ms k 1 T0\r\nb\r\n", "HD\r\n"),
        ("mg k v R30\r\n", "VA 1\r\nb\r\n"),
    ]);
}

#[test]
fn an_invalidated_item_is_stale_and_one_client_refills_it() {
    check(&[
        ("ms k 1 c\r\na\r\n", "HD c<old>\r\n"),
        ("md k I\r\n", "HD\r\n"),
        ("mg k v c\r\n", "VA 1 c<stale> X W\r\na\r\n"),
        ("mg k v c\r\n", "VA 1 c<stale> Z X\r\na\r\n"),
        ("get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n"),
        ("ms k 1 C<stale>\r\nb\r\n", "HD\r\n"),
        ("mg k v\r\n", "VA 1\r\nb\r\n"),
    ]);
}

#[test]
fn invalidating_again_lets_another_client_win() {
    check(&[
        ("ms k 1\r\na\r\nmd k I T30\r\n", "HD\r\nHD\r\n"),
        ("mg k v t\r\n", "VA 1 t<30|29|28> X W\r\na\r\n"),
        ("mg k v\r\n", "VA 1 Z X\r\na\r\n"),
        ("md k I\r\n", "HD\r\n"),
        ("mg k v t\r\n", "VA 1 t<30|29|28> X W\r\na\r\n"),
        ("mg k v\r\n", "VA 1 Z X\r\na\r\n"),
    ]);
}

#[test]
fn a_late_refill_is_taken_but_stays_stale() {
    check(&[
        ("ms k 1 T300 E10\r\na\r\n", "HD\r\n"),
        ("md k I E20\r\n", "HD\r\n"),
        ("mg k v\r\n", "VA 1 X W\r\na\r\n"),
        // Older than the item: refused without I, kept as stale with it.
        ("ms k 1 C10\r\nb\r\n", "EX\r\n"),
        ("ms k 1 C10 I E30\r\nc\r\n", "HD\r\n"),
        ("mg k v t c\r\n", "VA 1 t<300|299|298> c30 Z X\r\nc\r\n"),
        // Newer than the item: refused in either case.
        ("ms k 1 C40 I\r\nd\r\n", "EX\r\n"),
        ("ms k 1 C30 I\r\ne\r\n", "HD\r\n"),
        ("mg k v\r\n", "VA 1\r\ne\r\n"),
    ]);
}

#[test]
fn a_late_refill_of_a_stale_item_nobody_fetched() {
    check(&[
        ("ms k 1 E10\r\na\r\nmd k I E20\r\n", "HD\r\nHD\r\n"),
        ("ms k 1 C10 I E30\r\nb\r\n", "HD\r\n"),
        ("mg k v\r\n", "VA 1 X W\r\nb\r\n"),
        ("mg k v\r\n", "VA 1 Z X\r\nb\r\n"),
    ]);
}

#[test]
fn ordinary_stores_end_the_staleness() {
    check(&[
        ("ms k 1\r\na\r\nmd k I\r\n", "HD\r\nHD\r\n"),
        ("set k 0 0 1\r\nb\r\n", "STORED\r\n"),
        ("mg k v\r\n", "VA 1\r\nb\r\n"),
        ("md k I\r\nms k 1\r\nc\r\n", "HD\r\nHD\r\n"),
        ("mg k v\r\n", "VA 1\r\nc\r\n"),
        (
            "mg l N30\r\nset l 0 0 1\r\nx\r\nmg l v\r\n",
            "HD W\r\nSTORED\r\nVA 1\r\nx\r\n",
        ),
    ]);
}

#[test]
fn deleting_without_i_ends_everything() {
    check(&[
        ("ms k 1\r\na\r\nmd k I\r\nmd k\r\n", "HD\r\nHD\r\nHD\r\n"),
        ("mg k v\r\n", "EN\r\n"),
        ("mg k v N30\r\n", "VA 0 W\r\n\r\n"),
    ]);
}
