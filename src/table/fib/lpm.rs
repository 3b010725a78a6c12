//! (being written)

/// (being written)
#[derive(Clone, Debug, Default)]
pub struct Lpm<T>(std::marker::PhantomData<T>);
