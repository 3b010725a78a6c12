//! What recordings do not have: newer expressions, and what must not be taken as understood.

use super::super::super::nlattr::{HEADER_LEN, Request};
use super::*;
use crate::table::rules::expr::{ExthdrDo, Options, Register, Verdict};

/// Attributes of 32 bits in network order, and nested values.
fn attrs(list: &[(u16, Attr)]) -> Vec<u8> {
    let add = |request: Request, (kind, attr): &(u16, Attr)| match attr {
        Attr::Number(number) => request.attr(*kind, &number.to_be_bytes()),
        Attr::Raw(bytes) => request.attr(*kind, bytes),
        Attr::Value(bytes) => request.nest(*kind, |nest| nest.attr(1, bytes)),
    };
    list.iter()
        .fold(Request::new(0, 0, &[]), add)
        .finish(0)
        .split_off(HEADER_LEN)
}

#[derive(Clone, Copy)]
enum Attr<'a> {
    Number(u32),
    Raw(&'a [u8]),
    Value(&'a [u8]),
}
use Attr::{Number, Raw, Value};

fn decode(name: &str, list: &[(u16, Attr)]) -> Expr {
    let data = attrs(list);
    let mut states = Vec::new();
    let names = Names::default();
    let mut decoder = Decoder {
        names: &names,
        sets: &[],
        table: TableId(0),
        family: 2,
        states: &mut states,
    };
    decoder.expr(&attrs(&[(1, Raw(name.as_bytes())), (2, Raw(&data))]))
}

fn is_uncarried(name: &str, list: &[(u16, Attr)]) -> bool {
    matches!(decode(name, list), Expr::Uncarried(what) if what.name.starts_with(name))
}

fn reg(number: u32) -> Register {
    Register::of(number).unwrap()
}

#[test]
fn bit_operations_of_two_registers_and_of_constants() {
    let with = |op: u32, rest: (u16, Attr)| {
        let list = [(1, Number(1)), (2, Number(2)), (3, Number(4)), (6, Number(op)), rest];
        decode("bitwise", &list)
    };
    let expr = |op| Expr::Bitwise {
        source: reg(1),
        dest: reg(2),
        len: 4,
        op,
    };
    let data = || Operand::Data([1, 2, 3, 4].into());
    assert_eq!(with(3, (8, Number(9))), expr(BitOp::And(Operand::Register(reg(9)))));
    assert_eq!(with(4, (7, Value(&[1, 2, 3, 4]))), expr(BitOp::Or(data())));
    assert_eq!(with(5, (7, Value(&[1, 2, 3, 4]))), expr(BitOp::Xor(data())));
    assert_eq!(with(1, (7, Value(&5u32.to_ne_bytes()))), expr(BitOp::Left(5)));
    for (op, rest) in [(1, 0u32), (2, 32), (6, 1)] {
        assert_eq!(with(op, (7, Value(&rest.to_ne_bytes()))), Expr::uncarried("bitwise"));
    }
    assert_eq!(
        with(3, (7, Value(&[1, 2]))),
        Expr::uncarried("bitwise"),
        "of another length"
    );
    assert_eq!(
        with(3, (8, Number(0))),
        Expr::uncarried("bitwise"),
        "the verdict is no operand"
    );
}

#[test]
fn registers_must_hold_what_is_put_there() {
    let payload = |dest, len| [(1, Number(dest)), (2, Number(1)), (3, Number(0)), (4, Number(len))];
    assert!(matches!(
        decode("payload", &payload(4, 16)),
        Expr::Payload { len: 16, .. }
    ));
    for (dest, len) in [(4, 17), (23, 5), (0, 4), (5, 4), (24, 4), (1, 0), (1, 65), (1, 256)] {
        assert!(is_uncarried("payload", &payload(dest, len)), "{dest} {len}");
    }
    assert!(
        is_uncarried("meta", &[(1, Number(23)), (2, Number(6))]),
        "a name is 16 bytes"
    );
    assert!(is_uncarried(
        "cmp",
        &[(1, Number(23)), (2, Number(0)), (3, Value(&[0; 5]))]
    ));
}

#[test]
fn what_is_new_is_not_carried() {
    assert_eq!(
        decode("meta", &[(1, Number(1)), (2, Number(99))]),
        Expr::uncarried("meta 99")
    );
    assert_eq!(
        decode("ct", &[(1, Number(1)), (2, Number(24))]),
        Expr::uncarried("ct 24")
    );
    assert!(
        is_uncarried("meta", &[(1, Number(1)), (2, Number(3)), (4, Number(1))]),
        "another attribute"
    );
    assert!(is_uncarried("reject", &[(1, Number(3)), (2, Raw(&[0]))]));
    assert!(is_uncarried("reject", &[(1, Number(2)), (2, Raw(&[4]))]));
    assert!(is_uncarried("masq", &[(1, Number(0x80))]), "another flag");
    assert!(is_uncarried("cmp", &[(1, Number(1)), (2, Number(6)), (3, Value(&[1]))]));
    assert!(
        is_uncarried(
            "payload",
            &[(1, Number(1)), (2, Number(3)), (3, Number(0)), (4, Number(4))]
        ),
        "inner"
    );
    assert!(
        is_uncarried("lookup", &[(1, Raw(b"none\0")), (2, Number(1))]),
        "a set that is not there"
    );
    assert!(
        is_uncarried("limit", &[(1, Raw(&[0; 8])), (2, Raw(&[0, 0, 0, 0, 0, 0, 0, 1]))]),
        "a rate of nothing"
    );
    assert_eq!(decode("unheard-of", &[]), Expr::uncarried("unheard-of"));
    assert_eq!(
        decode("hash", &[(2, Number(1)), (4, Number(3)), (7, Number(1))]),
        Expr::uncarried("symhash")
    );
    assert_eq!(
        decode("match", &[(1, Raw(b"x\0"))]),
        Expr::uncarried("xt match"),
        "without its struct"
    );
}

#[test]
fn byteorder_of_eight_bytes_is_of_one_number() {
    let turn = |len, size| {
        [
            (1, Number(1)),
            (2, Number(1)),
            (3, Number(0)),
            (4, Number(len)),
            (5, Number(size)),
        ]
    };
    assert!(matches!(decode("byteorder", &turn(8, 8)), Expr::Byteorder { .. }));
    assert!(is_uncarried("byteorder", &turn(16, 8)) && is_uncarried("byteorder", &turn(4, 3)));
}

#[test]
fn verdicts_and_options() {
    let verdict = |code: i32| {
        let nest = attrs(&[(2, Raw(&attrs(&[(1, Number(code.cast_unsigned()))])))]);
        decode("immediate", &[(1, Number(0)), (2, Raw(&nest))])
    };
    assert_eq!(
        [verdict(0), verdict(-5)],
        [Expr::Verdict(Verdict::Drop), Expr::Verdict(Verdict::Return)]
    );
    assert_eq!(verdict(3), Expr::Verdict(Verdict::Uncarried(3)), "NF_QUEUE");
    assert_eq!(verdict(-3), Expr::uncarried("immediate"), "a jump to nowhere");
    let exthdr = |op, rest: (u16, Attr)| {
        decode(
            "exthdr",
            &[(2, Raw(&[2])), (3, Number(2)), (4, Number(2)), (6, Number(op)), rest],
        )
    };
    let store = Expr::Exthdr {
        options: Options::Tcp,
        kind: 2,
        offset: 2,
        len: 2,
        act: ExthdrDo::Store(reg(1)),
    };
    assert_eq!(exthdr(1, (7, Number(1))), store);
    assert_eq!(
        exthdr(0, (7, Number(1))),
        Expr::uncarried("exthdr"),
        "IPv6 headers are not written"
    );
    assert_eq!(exthdr(3, (1, Number(1))), Expr::uncarried("exthdr"), "SCTP");
}
