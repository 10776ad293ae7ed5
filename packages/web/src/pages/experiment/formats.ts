/** Megabytes with all digits: curves of memory differ in the last of them. */
export const memoryText = (megabytes: number) => `${Math.round(megabytes).toLocaleString('en')} MB`
