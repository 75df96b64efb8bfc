(** The paper's quantities over Coq's real numbers. A vector is a list of reals, a set of patterns a list of vectors;
    lists may be of any length, so every theorem in this folder is for every n, every d and every number of layers. *)

From Coq Require Import Reals List.
Import ListNotations.
Open Scope R_scope.

Definition sum (xs : list R) : R := fold_right Rplus 0 xs.

(** Greatest and least entry. On the empty list both are 0, a value no theorem relies on: each asks for a non-empty list. *)
Fixpoint maximum (xs : list R) : R :=
  match xs with [] => 0 | [x] => x | x :: rest => Rmax x (maximum rest) end.

Fixpoint minimum (xs : list R) : R :=
  match xs with [] => 0 | [x] => x | x :: rest => Rmin x (minimum rest) end.

(** How many entries, as a real number: the n of log n and the d of log d. *)
Definition count {A : Type} (l : list A) : R := INR (length l).

(** LSE(beta, y) = beta^-1 log sum_i exp (beta y_i), and LSE(y) = LSE(1, y). *)
Definition LSE_at (beta : R) (ys : list R) : R := ln (sum (map (fun y => exp (beta * y)) ys)) / beta.

Definition LSE (ys : list R) : R := ln (sum (map exp ys)).

(** exp y_i / sum_j exp y_j. *)
Definition softmax (ys : list R) : list R := map (fun y => exp y / sum (map exp ys)) ys.

(** t x + (1 - t) y, x . y, |x - y|^2, |x|^2 and max_i |x_i - y_i|, for two vectors of the same length. *)
Definition mix (t : R) (xs ys : list R) : list R := map (fun '(x, y) => t * x + (1 - t) * y) (combine xs ys).

Definition dot (xs ys : list R) : R := sum (map (fun '(x, y) => x * y) (combine xs ys)).

Definition sq_distance (xs ys : list R) : R := sum (map (fun '(x, y) => (x - y) ^ 2) (combine xs ys)).

Definition sq_norm (xs : list R) : R := sum (map (fun x => x ^ 2) xs).

Definition differences (xs ys : list R) : list R := map (fun '(x, y) => x - y) (combine xs ys).

Definition sup_distance (xs ys : list R) : R := maximum (map Rabs (differences xs ys)).

(** The d >= 1 patterns and the state x live in the same space. *)
Definition fits (x : list R) (patterns : list (list R)) : Prop :=
  patterns <> [] /\ forall rho, In rho patterns -> length rho = length x.

(** g(x) = min_i |x - rho_i|^2: equation (3). *)
Definition g (x : list R) (patterns : list (list R)) : R := minimum (map (sq_distance x) patterns).

(** E(x) = - log sum_i exp (- |x - rho_i|^2): equation (4). *)
Definition E (x : list R) (patterns : list (list R)) : R := - LSE (map (fun rho => - sq_distance x rho) patterns).

(** max_i |rho_i|^2, and Delta = max_i |rho_i|^2 - min_i |rho_i|^2. *)
Definition max_sq_norm (patterns : list (list R)) : R := maximum (map sq_norm patterns).

Definition Delta (patterns : list (list R)) : R := max_sq_norm patterns - minimum (map sq_norm patterns).

(** h(x) = |x|^2 + max_i |rho_i|^2 - 2 max_i rho_i . x: the search for the largest inner product. *)
Definition h (x : list R) (patterns : list (list R)) : R :=
  sq_norm x + max_sq_norm patterns - 2 * maximum (map (fun rho => dot rho x) patterns).

(** The MCHN energy of Ramsauer et al. 2020: - LSE(beta, M'x) + x'x/2 + beta^-1 log d + max_i |rho_i|^2 / 2. *)
Definition E_MCHN (beta : R) (x : list R) (patterns : list (list R)) : R :=
  - LSE_at beta (map (fun rho => dot rho x) patterns) + sq_norm x / 2 + ln (count patterns) / beta
  + max_sq_norm patterns / 2.

(** v' H v for the Hessian H = diag(p) - p p' of LSE at y, p = softmax(y): the variance of v under p. *)
Definition bend (ys v : list R) : R := dot (softmax ys) (map (fun a => a ^ 2) v) - dot (softmax ys) v ^ 2.

(** sum_i w_i v_i, of vectors with n entries. *)
Definition combination (n : nat) (weights : list R) (vectors : list (list R)) : list R :=
  fold_right (fun '(w, v) rest => map (fun '(a, b) => w * a + b) (combine v rest)) (repeat 0 n) (combine weights vectors).

(** The mean-shift point softmax(- |x - rho_i|^2) . rho, and the attention step softmax(beta M'x) . rho. *)
Definition mean_shift (x : list R) (patterns : list (list R)) : list R :=
  combination (length x) (softmax (map (fun rho => - sq_distance x rho) patterns)) patterns.

Definition attention (beta : R) (x : list R) (patterns : list (list R)) : list R :=
  combination (length x) (softmax (map (fun rho => beta * dot rho x) patterns)) patterns.

(** E_global = - LSE(-E_1, .., -E_l), equation (7): layers are given by their energies, functions of the state. *)
Definition E_global (energies : list (list R -> R)) (x : list R) : R := - LSE (map (fun E_t => - E_t x) energies).

(** p_t(x), the share of the layer with energy E_t in softmax(- E_1, .., - E_l). *)
Definition share (energies : list (list R -> R)) (E_t : list R -> R) (x : list R) : R :=
  exp (- E_t x) / sum (map (fun E_s => exp (- E_s x)) energies).

(** E_t = exp(- g_t) / Z_t, the energy that is printed for a layer that holds the patterns D. *)
Definition E_printed (Z : R) (D : list (list R)) (x : list R) : R := exp (- g x D) / Z.

(** Equation (6): x' is a least point of the layer's energy among the points within delta of x. *)
Definition layer_step (delta : R) (E_t : list R -> R) (x x' : list R) : Prop :=
  length x' = length x /\ sq_distance x x' <= delta ^ 2 /\
  forall y, length y = length x -> sq_distance x y <= delta ^ 2 -> E_t x' <= E_t y.
