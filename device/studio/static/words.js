/* Numbers and times in words. */

const SPACE = "\u00a0";

/** "1 picture", "12 pictures". */
export function count(number, noun) {
  return `${number}${SPACE}${noun}${number === 1 ? "" : "s"}`;
}

/** A share from 0 to 1 as "93 %"; a dash where there is none. */
export function percent(share) {
  return isNumber(share) ? `${Math.round(share * 100)}${SPACE}%` : "–";
}

/** A loss with three digits; a dash where there is none. */
export function loss(value) {
  return isNumber(value) ? value.toPrecision(3) : "–";
}

/** Seconds as "40 s", "3 min", "1 h 20 min". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) {
    return `${whole}${SPACE}s`;
  }
  const minutes = Math.round(whole / 60);
  if (minutes < 90) {
    return `${minutes}${SPACE}min`;
  }
  return `${Math.floor(minutes / 60)}${SPACE}h ${minutes % 60}${SPACE}min`;
}

/** Megabytes as "96 MB" or "11.9 GB"; a dash where they are not known. */
export function megabytes(value) {
  if (!isNumber(value)) {
    return "–";
  }
  return value < 1e4 ? `${Math.round(value)}${SPACE}MB` : `${(value / 1e3).toFixed(1)}${SPACE}GB`;
}

/** Seconds since 1970 as a date and a time of this place. */
export function moment(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, {
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
  });
}

/** A text with a capital first letter; an address keeps its own. */
export function sentence(text) {
  return /^\w+:\/\//.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1);
}

/** Whether there is a number that can be shown. */
export function isNumber(value) {
  return typeof value === "number" && isFinite(value);
}
