//! Work that nobody asks for again, and that is finished all the same.
