//! Pages as documents: loads one in a session of its own and says what is on it.
