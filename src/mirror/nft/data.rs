//! Values and verdicts (`nft_data_attributes`, `nft_verdict_attributes`).

use super::fields::Fields;
use super::names::Names;
use crate::table::rules::expr::Verdict;
use crate::table::rules::program::TableId;
use crate::table::rules::set::KEY_MAX;

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

/// A value of at least one byte.
pub(super) fn value(data: Option<&[u8]>) -> Option<Box<[u8]>> {
    let value = Fields::<3>::of(data?)?.get(1)?;
    (1..=KEY_MAX).contains(&value.len()).then(|| value.into())
}

/// A verdict of a rule in `table`; one that is not known is uncarried. None if it is no verdict, or leads nowhere.
pub(super) fn verdict(data: Option<&[u8]>, names: &Names, table: TableId) -> Option<Verdict> {
    let fields = Fields::<4>::of(Fields::<3>::of(data?)?.get(2)?)?;
    let code = fields.u32(1)?;
    let chain = || names.chain(table, fields.text(2)?);
    Some(match code.cast_signed() {
        -1 => Verdict::Continue,
        -2 => Verdict::Break,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => match code {
            NF_DROP => Verdict::Drop,
            NF_ACCEPT => Verdict::Accept,
            other => Verdict::Uncarried(other),
        },
    })
}
