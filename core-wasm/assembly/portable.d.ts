/** The core's integer types as tsc sees them: `layout.ts` is compiled by both compilers. */
declare type u32 = number;
declare type i32 = number;
