/**
 * The memory map: every size, offset, state and status code that both sides of the border use. Compiled by asc into the core
 * and by tsc into the engine, so that the two cannot disagree. Plain integers only; offsets are in bytes.
 *
 * The map is a chain (each region starts where the one before it ends). `core-wasm/README.md` says who writes which word.
 */

export const MAGIC: u32 = 0x51687366; // "fshQ", little-endian
export const LAYOUT_VERSION: u32 = 1;

export const PAGE_BYTES: u32 = 65536;
/** The whole memory, created at once: 4 GiB less one page, the most that a 32-bit address space lets a module import. */
export const PAGES_MAX: u32 = 65535;

// ---- the chain of fixed regions -----------------------------------------------------------------------------------------
/** The first KiB is never used, so that address 0 can mean "none". */
export const HEADER_AT: u32 = 1024;
export const HEADER_BYTES: u32 = 1024;

export const THREADS_AT: u32 = HEADER_AT + HEADER_BYTES;
export const THREADS_MAX: u32 = 256;
/** Four cache lines: what is set once, what the thread writes, what its rings' tails are, what the engine writes. */
export const THREAD_BYTES: u32 = 256;

export const OWNERS_AT: u32 = THREADS_AT + THREADS_MAX * THREAD_BYTES;
export const OWNER_BYTES: u32 = 2;

export const QUEUE_DIRECTORY_AT: u32 = OWNERS_AT + 65536 * OWNER_BYTES;
export const QUEUES_PER_CHUNK: u32 = 256;
export const QUEUE_BYTES: u32 = 256;
export const QUEUES_MAX: u32 = 65536;

export const INDEX_DIRECTORY_AT: u32 = QUEUE_DIRECTORY_AT + (QUEUES_MAX / QUEUES_PER_CHUNK) * 4;
export const INDEX_SEGMENTS_MAX: u32 = 2048;
export const INDEX_SEGMENT_BUCKETS: u32 = 16384; // 64 KiB of bucket heads

export const TIMER_DIRECTORY_AT: u32 = INDEX_DIRECTORY_AT + INDEX_SEGMENTS_MAX * 4;
export const TIMER_SEGMENTS_MAX: u32 = 8192;
export const TIMER_SEGMENT_ENTRIES: u32 = 4096; // 64 KiB of 16-byte entries
export const TIMER_BYTES: u32 = 16;

export const FIXED_END: u32 = TIMER_DIRECTORY_AT + TIMER_SEGMENTS_MAX * 4;
/** The first page of the heap of chunks: 262,144 bytes in. The chain above must end before it (checked at compile time). */
export const CHUNK_FIRST: u32 = 4;

// ---- header -------------------------------------------------------------------------------------------------------------
export const H_MAGIC: u32 = HEADER_AT + 0;
export const H_VERSION: u32 = HEADER_AT + 4;
export const H_CHUNKS_MAX: u32 = HEADER_AT + 8;
/** Chunks ever used; the pages above have never been touched. */
export const H_CHUNKS_TOUCHED: u32 = HEADER_AT + 12;
export const H_CHUNKS_USED: u32 = HEADER_AT + 16;
export const H_CHUNK_HINT: u32 = HEADER_AT + 20;
/** Chunks that only the engine's own bookkeeping may still take. */
export const H_CHUNKS_RESERVED: u32 = HEADER_AT + 24;
export const H_EPOCH: u32 = HEADER_AT + 28;
export const H_THREADS_HIGH: u32 = HEADER_AT + 32;
export const H_QUEUES: u32 = HEADER_AT + 36;
export const H_CLOCK_MODE: u32 = HEADER_AT + 40;
export const H_CLOCK: u32 = HEADER_AT + 48; // f64, milliseconds since the epoch, for a test clock
// the engine thread's own words
export const H_JOB_NEXT: u32 = HEADER_AT + 64; // u64
export const H_SLOT_FREE_HEAD: u32 = HEADER_AT + 72;
export const H_SLOT_FREE_TAIL: u32 = HEADER_AT + 76;
export const H_SLOT_CHUNK: u32 = HEADER_AT + 80;
export const H_SLOT_CARVED: u32 = HEADER_AT + 84;
export const H_SLOTS_LIVE: u32 = HEADER_AT + 88;
export const H_LIMBO_NEW: u32 = HEADER_AT + 92;
export const H_LIMBO_OLD: u32 = HEADER_AT + 96;
export const H_LIMBO_EPOCH: u32 = HEADER_AT + 100;
export const H_LIMBO_COUNT: u32 = HEADER_AT + 104;
export const H_TIMERS: u32 = HEADER_AT + 108;
export const H_TIMER_SEGMENTS: u32 = HEADER_AT + 112;
export const H_INDEX_COUNT: u32 = HEADER_AT + 116;
export const H_INDEX_BUCKETS: u32 = HEADER_AT + 120;
/** First of the chunks that threads have carved to their end; threads push, the engine takes all. */
export const H_SEALED: u32 = HEADER_AT + 192;
/** Per size class: first chunk with a freed block in it. */
export const H_PARTIAL: u32 = HEADER_AT + 256;

// ---- thread records -----------------------------------------------------------------------------------------------------
/** Thread 0 means "nobody"; thread 1 is the engine's own. */
export const ENGINE_THREAD: u32 = 1;
export const T_STATE: u32 = 0;
export const T_QUEUE: u32 = 4;
export const T_AREA: u32 = 8;
/** Runs in this thread's hands; its own word. */
export const T_INFLIGHT: u32 = 64;
/** 0 outside a claim; else the value of the epoch when the thread entered it. */
export const T_EPOCH: u32 = 68;
export const T_PARK: u32 = 72;
export const T_OUTCOME_TAIL: u32 = 128;
export const T_SUBMIT_TAIL: u32 = 132;
export const T_OUTCOME_HEAD: u32 = 192;
export const T_SUBMIT_HEAD: u32 = 196;

export const THREAD_FREE: u32 = 0;
export const THREAD_LIVE: u32 = 1;
export const THREAD_DEAD: u32 = 2;

export const PARK_RUNNING: u32 = 0;
export const PARK_PARKED: u32 = 1;
export const PARK_WOKEN: u32 = 2;

/** A thread's area: one chunk. */
export const CLAIM_ENTRIES_MAX: u32 = 1024;
export const A_CLAIMS: u32 = 0; // u64 a run: slot and generation of the claim
export const A_OUTCOMES: u32 = A_CLAIMS + CLAIM_ENTRIES_MAX * 8;
export const RING_ENTRY_BYTES: u32 = 32;
/** Two entries a run (started, settled) and as many again, so that a busy engine thread does not stop claims at once. */
export const OUTCOME_RING_ENTRIES: u32 = 1024;
export const A_SUBMITS: u32 = A_OUTCOMES + OUTCOME_RING_ENTRIES * RING_ENTRY_BYTES;
export const SUBMIT_RING_ENTRIES: u32 = 512;
export const A_CURRENT: u32 = A_SUBMITS + SUBMIT_RING_ENTRIES * RING_ENTRY_BYTES; // u32 a size class
export const A_PATH: u32 = A_CURRENT + 64 * 4; // u64 a depth of the trie: words read on the way down
export const A_LIMIT: u32 = A_PATH + 8 * 8; // u64: the rate cell's value before this claim took it
export const A_END: u32 = A_LIMIT + 8;

// ---- ring entries -------------------------------------------------------------------------------------------------------
export const E_TICKET: u32 = 0; // u64 (outcomes)
export const E_KIND: u32 = 8;
export const E_BLOCK: u32 = 12;
export const E_AT: u32 = 16; // f64
export const E_VALUE: u32 = 24; // f64
export const E_QUEUE: u32 = 0; // u32 (submits)
export const E_REQUEST: u32 = 4; // u32 (submits)

export const OUTCOME_STARTED: u32 = 1;
export const OUTCOME_COMPLETED: u32 = 2;
export const OUTCOME_FAILED: u32 = 3;
export const OUTCOME_DELAYED: u32 = 4;
export const OUTCOME_RELEASED: u32 = 5;
export const OUTCOME_CANCELLED: u32 = 6;
export const OUTCOME_WAITING: u32 = 7;

// ---- chunks and blocks --------------------------------------------------------------------------------------------------
/** Two cache lines: the carving owner's words, then the engine's. */
export const CHUNK_HEADER_BYTES: u32 = 128;
export const C_KIND: u32 = 0;
export const C_CLASS: u32 = 4;
export const C_CARVED: u32 = 8; // blocks handed out from the untouched end, the owner's word
export const C_CAPACITY: u32 = 12;
export const C_NEXT_PART: u32 = 16; // large payloads: the next chunk
export const C_LIVE: u32 = 64;
export const C_FREE: u32 = 68; // first freed block, the engine's word
export const C_PARTIAL_PREV: u32 = 72;
export const C_PARTIAL_NEXT: u32 = 76;
export const C_SEALED: u32 = 80; // 1: no block of it will be carved any more, `live` is the truth

export const CHUNK_SYSTEM: u32 = 1;
export const CHUNK_SLOTS: u32 = 2;
export const CHUNK_BLOCKS: u32 = 3;
export const CHUNK_LARGE: u32 = 4;

export const SIZE_CLASSES: u32 = 42;
/** Largest block (its header included) that shares a chunk; two of them fill one. */
export const BLOCK_BYTES_MAX: u32 = 32704;
export const BLOCK_HEADER_BYTES: u32 = 8;
/** Before a block's first byte: its readers, then its length. */
export const B_REFS: i32 = -8;
export const B_LENGTH: i32 = -4;
/** `refs` of a block in the hands of a thread that has not handed it over yet. */
export const BLOCK_HELD: u32 = 0x7fffffff;
export const LARGE_FIRST_BYTES: u32 = PAGE_BYTES - CHUNK_HEADER_BYTES - BLOCK_HEADER_BYTES;
export const LARGE_PART_BYTES: u32 = PAGE_BYTES - CHUNK_HEADER_BYTES;

// ---- job slots ----------------------------------------------------------------------------------------------------------
export const SLOT_BYTES: u32 = 128;
export const SLOT_SHIFT: u32 = 7;
/** The word: generation(39) | owner(16) | state(9). A hint: generation(39) | slot(25). */
export const GENERATION_SHIFT: u32 = 25;
export const OWNER_SHIFT: u32 = 9;
export const STATE_MASK: u32 = 511;
export const LOW_MASK: u32 = 0x1ffffff;

export const S_WORD: u32 = 0;
export const S_NUMBER: u32 = 8; // u64
export const S_DUE: u32 = 16; // f64 ms: when a delayed job is due
/** The same eight bytes of a job that waits or runs: the heap of its group in which it waits, 0 = the queue's; what age has added to its priority. */
export const S_HEAP: u32 = 16;
export const S_AGED: u32 = 20; // i32
export const S_TIMESTAMP: u32 = 24; // f64
export const S_PROCESSED_ON: u32 = 32; // f64
export const S_FINISHED_ON: u32 = 40; // f64
export const S_EXPIRY: u32 = 48; // f64, 0 = never
export const S_QUEUE: u32 = 56;
export const S_PRIORITY: u32 = 60; // i32
export const S_PAYLOAD: u32 = 64;
export const S_RESULT: u32 = 68;
export const S_EXTRA: u32 = 72;
export const S_FLAGS: u32 = 76;
export const S_HASH: u32 = 80;
export const S_INDEX_NEXT: u32 = 84;
export const S_PREV: u32 = 88;
export const S_NEXT: u32 = 92;
export const S_TIMER: u32 = 96; // place in the timer heap + 1, 0 = none
export const S_ATTEMPTS: u32 = 100;
export const S_STARTED: u32 = 104;
export const S_LOST: u32 = 108; // u8
export const S_PROBE: u32 = 109; // u8, probe cell + 1, 0 = none
export const S_PERMIT: u32 = 110; // u16, permit cell + 1, 0 = none
export const S_DEPENDENCIES: u32 = 112; // first edge to what this job depends on
export const S_DEPENDENTS: u32 = 116; // first edge to what waits for this job
export const S_UNSETTLED: u32 = 120; // dependencies not settled yet
export const S_PINS: u32 = 124; // dependents that may still read this record

export const STATE_FREE: u32 = 0;
export const STATE_WAITING: u32 = 1;
export const STATE_DELAYED: u32 = 2;
export const STATE_BLOCKED: u32 = 3;
export const STATE_ACTIVE: u32 = 4;
export const STATE_COMPLETED: u32 = 5;
export const STATE_FAILED: u32 = 6;
export const STATE_CANCELLED: u32 = 7;
/** Only the id is remembered (idempotency). */
export const STATE_REMEMBERED: u32 = 8;
/** Removed, but a dependent may still read its result. */
export const STATE_GONE: u32 = 9;
/** Removed by its own retention, kept a little for late waiters. */
export const STATE_LINGERING: u32 = 10;
export const STATES: u32 = 11;

export const FLAG_CUSTOM_ID: u32 = 1;
export const FLAG_LIFO: u32 = 2;
/** The thread that claims it reports the start (it has a timeout). */
export const FLAG_REPORT_START: u32 = 4;
/** In the id index. */
export const FLAG_INDEXED: u32 = 8;
export const FLAG_OPTIONS: u32 = 16;
/** Waiting, but not in the heap yet: what made it so is not durable. */
export const FLAG_UNREACHED: u32 = 32;
/** What the engine keeps in the upper bits: see engine/jobs. */
export const FLAG_ENGINE_SHIFT: u32 = 8;

// ---- payload block of a job ---------------------------------------------------------------------------------------------
/** u16 id bytes, u16 name bytes, u32 option bytes; then id, name, options, data. */
export const P_ID_BYTES: u32 = 0;
export const P_NAME_BYTES: u32 = 2;
export const P_OPTION_BYTES: u32 = 4;
export const P_CONTENT: u32 = 8;

// ---- queue records ------------------------------------------------------------------------------------------------------
export const Q_ROOT: u32 = 0;
export const Q_FLAGS: u32 = 4;
export const Q_PERMITS: u32 = 8; // directory block of permit cells
export const Q_PERMIT_LIMIT: u32 = 12; // NO_LIMIT = none
export const Q_RATE: u32 = 16; // directory block of start times
export const Q_RATE_MAX: u32 = 20; // 0 = no limit
export const Q_RATE_MS: u32 = 24; // f64
export const Q_LEVEL_KEY: u32 = 32; // the engine's last level, a cache
export const Q_LEVEL: u32 = 36;
export const Q_LEVELS_HEAD: u32 = 40;
export const Q_LEVELS_TAIL: u32 = 44;
export const Q_LEVELS: u32 = 48;
export const Q_PERMIT_CELLS: u32 = 52; // allocated
export const Q_RATE_CELLS: u32 = 56;
export const Q_LISTS: u32 = 64; // a state: head, tail, count
export const LIST_BYTES: u32 = 12;
export const Q_PERMIT_HINT: u32 = 224;
export const Q_RATE_HINT: u32 = 228;
/** Hints of jobs that can be claimed; advice, kept only with QUEUE_COUNTED. */
export const Q_READY: u32 = 232;

export const QUEUE_PAUSED: u32 = 1;
export const QUEUE_REPORT_START: u32 = 2;
/** Whoever claims notes the start in a file before the run begins. */
export const QUEUE_NOTE_START: u32 = 4;
/** Somebody claims in batches, and wants to know how many jobs there are. */
export const QUEUE_COUNTED: u32 = 8;
/** Nobody claims for a while. */
export const QUEUE_HELD: u32 = 16;

/** Cells of permits and of start times, in one block each. */
export const LIMIT_SEGMENT_CELLS: u32 = 4000;
export const LIMIT_SEGMENTS_MAX: u32 = 17;
export const LIMIT_CELLS_MAX: u32 = 65534;
export const NO_LIMIT: u32 = 0x7fffffff;

// ---- ready heap ---------------------------------------------------------------------------------------------------------
/** Trie node: word (version(32) | children(32)), parent, place in the parent, then 32 children. */
export const N_WORD: u32 = 0;
export const N_PARENT: u32 = 8;
export const N_PLACE: u32 = 12;
export const N_CHILDREN: u32 = 16;
export const NODE_BYTES: u32 = N_CHILDREN + 32 * 4;
/** 2 + 6 x 5 bits of a 32-bit priority. */
export const TRIE_DEPTH: u32 = 7;
export const TRIE_ROOT_SHIFT: u32 = 30;

export const L_HEAD: u32 = 0; // u64: segment(32) | cell(32), claimers advance it
export const L_TAIL: u32 = 8; // u64, the engine's
export const L_LANE: u32 = 16; // first node of the head lane
export const L_NODE: u32 = 20;
export const L_PLACE: u32 = 24;
export const L_KEY: u32 = 28;
export const L_QUEUE: u32 = 32;
export const L_FIRST: u32 = 36; // oldest segment not retired
export const L_STALE: u32 = 40;
export const L_PUSHED: u32 = 44; // cells in the segments from first to tail
export const L_LANE_KNOWN: u32 = 48; // the engine's copy of the lane's top
export const L_PREV: u32 = 52;
export const L_NEXT: u32 = 56;
export const L_INLINE: u32 = 64; // a segment inside the descriptor
export const LEVEL_INLINE_CELLS: u32 = 6;
export const G_NEXT: u32 = 0;
export const G_CELLS: u32 = 4;
export const G_FIRST: u32 = 8;
export const LEVEL_BYTES: u32 = L_INLINE + G_FIRST + LEVEL_INLINE_CELLS * 8;
export const SEGMENT_CELLS_MIN: u32 = 64;
export const SEGMENT_CELLS_MAX: u32 = 1024;
export const LANE_HINT: u32 = 0;
export const LANE_NEXT: u32 = 8;
export const LANE_BYTES: u32 = 16;
/** A level is rewritten when its stale hints exceed the live ones by this much. */
export const STALE_SLACK: u32 = 1024;

// ---- groups: a heap for each, beside the queue's -------------------------------------------------------------------------
/** As much of a queue's record as its heap needs (Q_ROOT to Q_LEVELS). */
export const GROUP_BYTES: u32 = Q_LEVELS + 4;

// ---- circuit breakers ---------------------------------------------------------------------------------------------------
/** period(32) | failures in a row(24) | state(8). The period grows with each opening. */
export const BR_WORD: u32 = 0;
export const BR_PERIOD: u32 = 4; // its upper half
export const BR_FAILURES_SHIFT: u32 = 8;
export const BR_STATE_MASK: u32 = 255;
export const BR_CELLS: u32 = 8;
export const BR_THRESHOLD: u32 = 12; // so many failures in a row open it
export const BR_FIRST: u32 = 16; // u64 a probe
export const BREAKER_CLOSED: u32 = 0;
export const BREAKER_OPEN: u32 = 1;
export const BREAKER_HALF_OPEN: u32 = 2;
export const BREAKER_CELLS_MAX: u32 = 255;
/** Counts have 24 bits. */
export const BREAKER_FAILURES_MAX: u32 = 0xffffff;

// ---- dependency edges ---------------------------------------------------------------------------------------------------
export const D_DEPENDENCY: u32 = 0;
export const D_DEPENDENT: u32 = 4;
export const D_OUT_PREV: u32 = 8;
export const D_OUT_NEXT: u32 = 12;
export const D_IN_NEXT: u32 = 16;
/** 1 while linked among the dependents of its dependency. */
export const D_LINKED: u32 = 20;
export const EDGE_BYTES: u32 = 24;

// ---- answers of claim (a slot's address is never below 128) --------------------------------------------------------------
export const CLAIM_EMPTY: u32 = 0;
export const CLAIM_PAUSED: u32 = 1;
export const CLAIM_NO_PERMIT: u32 = 2;
export const CLAIM_RATE_LIMITED: u32 = 3;
export const CLAIM_NO_OUTCOME_SPACE: u32 = 4;
export const CLAIM_BREAKER: u32 = 5;
export const CLAIM_CODES: u32 = 128;
